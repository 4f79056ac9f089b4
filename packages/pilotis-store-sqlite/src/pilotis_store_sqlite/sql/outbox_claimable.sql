-- The rows that a relay may claim, in order: those of a window that are not held, with none of their key before them that
-- is. A row is held that is not due, that is in another relay's hands, or that is of a kind which this one does not take.
-- Names: {window}, common table expressions that end with `window_rows`, in which nothing of a key is left out before
-- what is in it.
-- Arguments: `limit`, and those of the window.

WITH RECURSIVE {window},
held AS (SELECT key, MIN(position) AS position FROM window_rows WHERE is_held AND key IS NOT NULL GROUP BY key)
SELECT position, kind, id, name, key, body, attempts
FROM pilotis_outbox
WHERE position IN (
    SELECT mine.position
    FROM window_rows AS mine LEFT JOIN held USING (key)
    WHERE NOT mine.is_held AND (held.position IS NULL OR held.position > mine.position)
    ORDER BY mine.position
    LIMIT :limit
)
ORDER BY position
