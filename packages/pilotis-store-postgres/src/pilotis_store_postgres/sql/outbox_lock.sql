-- Before rows with keys are written, through the connection of a caller: lock the keys until the caller's transaction
-- ends, always in one order. So of one key the rows that are committed later have the higher positions.
-- Arguments: bus, and keys, which is a JSON array.

SELECT pg_advisory_xact_lock(lock)
FROM (
    SELECT DISTINCT hashtextextended(concat('pilotis_outbox ', CAST(:bus AS text), ' ', key), 0) AS lock
    FROM json_array_elements_text(CAST(:keys AS json)) AS key
    ORDER BY lock
) AS locks
