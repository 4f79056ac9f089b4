-- Remove rows that were set aside.
-- Arguments: `bus`, `ids` (a JSON array; NULL means all).

DELETE FROM pilotis_outbox
WHERE bus = :bus AND set_aside_at IS NOT NULL AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
