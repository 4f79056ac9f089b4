-- Put an entry in place of the one with its id, if that is one version older. Changes one row, or none.
-- Arguments: `service` and the columns of the new entry. What never changes is left as it is.

UPDATE pilotis_ledger
SET status = :status, notification = :notification, message = :message, digest = :digest, version = :version,
    leased_until = :leased_until, takeovers = :takeovers
WHERE service = :service AND id = :id AND version = :version - 1
