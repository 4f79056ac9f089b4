-- The entry that has an idempotency key.
-- Arguments: `service`, `idempotency_key`.

SELECT notification, message, digest, version, leased_until, takeovers
FROM pilotis_ledger
WHERE service = :service AND idempotency_key = :idempotency_key
