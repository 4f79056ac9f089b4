-- Write an entry down, unless its idempotency key is taken. Returns its id, or nothing.
-- Names: {table}. Arguments: `service` and the columns of the entry.

INSERT INTO {table} (
    service, id, idempotency_key, status, recipient, channel, resource_kind, resource_id, created_at,
    notification, message, digest, version, leased_until, takeovers
)
VALUES (
    %(service)s, %(id)s, %(idempotency_key)s, %(status)s, %(recipient)s, %(channel)s, %(resource_kind)s,
    %(resource_id)s, %(created_at)s, %(notification)s, %(message)s, %(digest)s, %(version)s, %(leased_until)s,
    %(takeovers)s
)
ON CONFLICT (service, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id
