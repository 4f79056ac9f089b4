-- Remove rows that were set aside.
-- Arguments: bus, ids (an array; NULL means all). Result: one row for each.

DELETE FROM {table}
WHERE bus = %(bus)s AND set_aside_at IS NOT NULL AND (%(ids)s::text[] IS NULL OR id = ANY(%(ids)s::text[]))
RETURNING position
