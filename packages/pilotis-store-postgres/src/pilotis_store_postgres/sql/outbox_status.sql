-- How many rows wait, for how many seconds, how many of them were tried in vain, and how many were set aside.
-- Arguments: bus.

SELECT
    count(*) FILTER (WHERE set_aside_at IS NULL),
    CAST(extract(epoch FROM now() - min(written_at) FILTER (WHERE set_aside_at IS NULL)) AS float8),
    count(*) FILTER (WHERE set_aside_at IS NULL AND attempts > 0),
    count(*) FILTER (WHERE set_aside_at IS NOT NULL)
FROM {table}
WHERE bus = %(bus)s
