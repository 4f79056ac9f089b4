-- Have rows that were set aside tried again.
-- Arguments: bus, ids (an array; NULL means all). Result: one row for each.

UPDATE {table} SET set_aside_at = NULL, attempts = 0, due_at = now()
WHERE bus = %(bus)s AND set_aside_at IS NOT NULL AND (%(ids)s::text[] IS NULL OR id = ANY(%(ids)s::text[]))
RETURNING position
