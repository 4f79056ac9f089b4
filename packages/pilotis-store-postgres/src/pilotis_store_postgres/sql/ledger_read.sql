-- The entries of some ids. Returns the id before the columns of each.
-- Names: {table}. Arguments: `service`, `ids`.

SELECT id, notification, message, digest, version, leased_until, takeovers
FROM {table}
WHERE service = %(service)s AND id = ANY(%(ids)s)
