-- Take rows into a relay's hands for a while.
-- Arguments: `claim`, `until`, `positions` (a JSON array).

UPDATE pilotis_outbox SET claim = :claim, claimed_until = :until
WHERE position IN (SELECT value FROM json_each(:positions))
