-- Rows that were set aside, the oldest first.
-- Arguments: `bus`, `limit`.

SELECT id, kind, name, key, body, attempts, error, written_at, set_aside_at
FROM pilotis_outbox
WHERE bus = :bus AND set_aside_at IS NOT NULL
ORDER BY position
LIMIT :limit
