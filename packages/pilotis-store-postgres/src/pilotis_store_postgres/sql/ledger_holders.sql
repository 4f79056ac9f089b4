-- The entries that have some idempotency keys. Returns the key before the columns of each.
-- Names: {table}. Arguments: `service`, `keys`.

SELECT idempotency_key, notification, message, digest, version, leased_until, takeovers
FROM {table}
WHERE service = %(service)s AND idempotency_key = ANY(%(keys)s)
