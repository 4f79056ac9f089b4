-- Remove a row that was handed over, whoever has it by now: it was handed over with the id that it has.
-- Arguments: `position`.

DELETE FROM pilotis_outbox WHERE position = :position
