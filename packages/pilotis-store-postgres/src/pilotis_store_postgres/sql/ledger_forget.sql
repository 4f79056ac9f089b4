-- Delete some of the entries that were settled, or left by their sender, and are older than what is kept. Those that
-- somebody else is deleting are passed over. Returns how many were deleted.
-- Names: {table}. Arguments: `service`, `before` (microseconds since 1970), `now` (seconds since 1970), `limit`.

WITH old AS MATERIALIZED (
    SELECT id FROM {table}
    WHERE service = %(service)s AND created_at < %(before)s AND (leased_until IS NULL OR leased_until <= %(now)s)
    ORDER BY created_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM {table} USING old WHERE {table}.service = %(service)s AND {table}.id = old.id RETURNING 1
)
SELECT count(*) FROM forgotten
