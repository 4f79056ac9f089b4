-- Write rows, through the connection of a caller, in whose transaction that is.
-- They are due whatever the clock says later: it may be set back.
-- Arguments: `bus`, `now` and `rows`, which is a JSON array of objects with kind, id, name, key and body.

INSERT INTO pilotis_outbox (bus, kind, id, name, key, body, written_at, due_at)
SELECT
    :bus, json_extract(value, '$.kind'), json_extract(value, '$.id'), json_extract(value, '$.name'),
    json_extract(value, '$.key'), json_extract(value, '$.body'), :now, 0
FROM json_each(:rows)
ORDER BY CAST(json_each.key AS INTEGER)
