-- Write rows, through the connection of a caller, in whose transaction that is, and tell the relays once it is committed.
-- PostgreSQL tells them once, however often that is done in one transaction.
-- Arguments: bus, rows, which is a JSON array of objects with kind, id, name, key and body, and channel; NULL tells nobody.

WITH written AS (
    INSERT INTO {table} (bus, kind, id, name, key, body)
    SELECT CAST(:bus AS text), kind, id, name, key, body
    FROM ROWS FROM (
        json_to_recordset(CAST(:rows AS json)) AS (kind text, id text, name text, key text, body text)
    ) WITH ORDINALITY AS given (kind, id, name, key, body, ordinal)
    ORDER BY ordinal
    RETURNING position
)
SELECT CASE WHEN CAST(:channel AS text) IS NOT NULL THEN pg_notify(CAST(:channel AS text), '') END
FROM (SELECT count(*) FROM written) AS told
