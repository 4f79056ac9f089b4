-- Write an entry down, unless its idempotency key is taken. Changes one row, or none.
-- Arguments: `service` and the columns of the entry.

INSERT INTO pilotis_ledger (
    service, id, idempotency_key, status, recipient, channel, resource_kind, resource_id, created_at,
    notification, message, digest, version, leased_until, takeovers
)
VALUES (
    :service, :id, :idempotency_key, :status, :recipient, :channel, :resource_kind, :resource_id, :created_at,
    :notification, :message, :digest, :version, :leased_until, :takeovers
)
ON CONFLICT (service, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
