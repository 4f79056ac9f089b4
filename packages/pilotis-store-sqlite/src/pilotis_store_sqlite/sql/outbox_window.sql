-- The first rows of all: so many as `window` says, because all of a long queue would take long.
-- Arguments: `bus`, `kinds` (a JSON array), `now`, `window`.

window_rows AS (
    SELECT
        position, key,
        due_at > :now OR IFNULL(claimed_until > :now, FALSE) OR kind NOT IN (SELECT value FROM json_each(:kinds)) AS is_held
    FROM pilotis_outbox
    WHERE bus = :bus AND set_aside_at IS NULL
    ORDER BY position
    LIMIT :window
)
