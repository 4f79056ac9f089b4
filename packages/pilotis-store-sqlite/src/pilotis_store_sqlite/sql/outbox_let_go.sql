-- Let go of all that a relay has in its hands.
-- Arguments: `claim`, `positions` (a JSON array, so that an index serves it).

UPDATE pilotis_outbox SET claim = NULL, claimed_until = NULL
WHERE position IN (SELECT value FROM json_each(:positions)) AND claim = :claim
