-- Rows that were set aside, the oldest first.
-- Arguments: bus, limit.

SELECT id, kind, name, key, body, attempts, error, written_at AT TIME ZONE 'UTC', set_aside_at AT TIME ZONE 'UTC'
FROM {table}
WHERE bus = %(bus)s AND set_aside_at IS NOT NULL
ORDER BY position
LIMIT %(limit)s
