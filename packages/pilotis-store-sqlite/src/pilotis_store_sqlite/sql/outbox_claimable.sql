-- The rows that a relay may claim, in order: due, in nobody's hands, and with none of their key before them that is not.
-- Arguments: `bus`, `kinds` (a JSON array), `now`, `limit`.

SELECT position, kind, id, name, key, body, attempts
FROM pilotis_outbox AS mine
WHERE bus = :bus AND set_aside_at IS NULL AND due_at <= :now AND (claimed_until IS NULL OR claimed_until <= :now)
AND kind IN (SELECT value FROM json_each(:kinds))
AND (key IS NULL OR NOT EXISTS (
    SELECT 1 FROM pilotis_outbox AS earlier
    WHERE earlier.bus = mine.bus AND earlier.key = mine.key AND earlier.position < mine.position
    AND earlier.set_aside_at IS NULL AND (earlier.due_at > :now OR earlier.claimed_until > :now)
))
ORDER BY position
LIMIT :limit
