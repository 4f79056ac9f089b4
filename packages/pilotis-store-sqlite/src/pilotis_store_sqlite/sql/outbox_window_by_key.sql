-- Where the first rows of all are held: the first rows without a key that are due, and those of each key whose first is
-- not held. Keys are gone through one by one, each by one step in an index, however many rows wait behind its first.
-- Arguments: `bus`, `kinds` (a JSON array), `now`, `window`, `limit`.

keys (key) AS (
    SELECT MIN(key) FROM pilotis_outbox WHERE bus = :bus AND key IS NOT NULL AND set_aside_at IS NULL
    UNION ALL
    SELECT (
        SELECT MIN(later.key) FROM pilotis_outbox AS later
        WHERE later.bus = :bus AND later.key > keys.key AND later.key IS NOT NULL AND later.set_aside_at IS NULL
    )
    FROM keys
    WHERE key IS NOT NULL
),
open_keys AS (
    SELECT keys.key
    FROM keys JOIN pilotis_outbox AS head ON head.position = (
        SELECT MIN(position) FROM pilotis_outbox WHERE bus = :bus AND key = keys.key AND set_aside_at IS NULL
    )
    WHERE head.due_at <= :now AND NOT IFNULL(head.claimed_until > :now, FALSE)
    AND head.kind IN (SELECT value FROM json_each(:kinds))
    LIMIT :limit
),
keyed_rows AS (
    SELECT row.*
    FROM open_keys JOIN pilotis_outbox AS row ON row.position IN (
        SELECT position FROM pilotis_outbox
        WHERE bus = :bus AND key = open_keys.key AND set_aside_at IS NULL
        ORDER BY position
        LIMIT :limit
    )
    LIMIT :window
),
free_rows AS (
    SELECT * FROM pilotis_outbox
    WHERE bus = :bus AND key IS NULL AND set_aside_at IS NULL AND due_at <= :now
    AND NOT IFNULL(claimed_until > :now, FALSE) AND kind IN (SELECT value FROM json_each(:kinds))
    ORDER BY due_at, position
    LIMIT :limit
),
window_rows AS (
    SELECT position, key, FALSE AS is_held FROM free_rows
    UNION ALL
    SELECT
        position, key,
        due_at > :now OR IFNULL(claimed_until > :now, FALSE) OR kind NOT IN (SELECT value FROM json_each(:kinds))
    FROM keyed_rows
)
