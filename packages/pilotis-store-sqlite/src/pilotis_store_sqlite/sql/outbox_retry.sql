-- Have rows that were set aside tried again.
-- Arguments: `bus`, `ids` (a JSON array; NULL means all).

UPDATE pilotis_outbox SET set_aside_at = NULL, attempts = 0, due_at = 0, claim = NULL, claimed_until = NULL
WHERE bus = :bus AND set_aside_at IS NOT NULL AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
