-- Have rows that were set aside tried again, and tell the relays once that is committed.
-- Arguments: bus, ids (an array; NULL means all), and channel; NULL tells nobody. Result: one row for each.

WITH retried AS (
    UPDATE {table} SET set_aside_at = NULL, attempts = 0, due_at = now()
    WHERE bus = %(bus)s AND set_aside_at IS NOT NULL AND (%(ids)s::text[] IS NULL OR id = ANY(%(ids)s::text[]))
    RETURNING position
)
SELECT position, CASE WHEN %(channel)s::text IS NOT NULL THEN pg_notify(%(channel)s::text, '') END FROM retried
