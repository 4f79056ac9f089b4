-- Note that a row was tried in vain, if it still is in the hands of the relay that tried.
-- Arguments: `position`, `claim`, `due_at`, `error`, `set_aside_at` (NULL to have it tried again).

UPDATE pilotis_outbox
SET attempts = attempts + 1, error = :error, due_at = :due_at, set_aside_at = :set_aside_at
WHERE position = :position AND claim = :claim
