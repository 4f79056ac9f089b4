-- Delete some of the entries that were settled, or left by their sender, and are older than what is kept.
-- Arguments: `service`, `before` (microseconds since 1970), `now` (seconds since 1970), `limit`.

DELETE FROM pilotis_ledger
WHERE rowid IN (
    SELECT rowid FROM pilotis_ledger
    WHERE service = :service AND created_at < :before AND (leased_until IS NULL OR leased_until <= :now)
    ORDER BY created_at
    LIMIT :limit
)
