-- The entry of an id, or none.
-- Arguments: `service`, `id`.

SELECT notification, message, digest, version, leased_until, takeovers
FROM pilotis_ledger
WHERE service = :service AND id = :id
