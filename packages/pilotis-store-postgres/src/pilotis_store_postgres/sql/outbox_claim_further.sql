-- Lock more rows for a relay that found none with a key among the first: after `outbox_claim`, in its transaction.
-- Keys are gone through one by one, each by one step in an index, however many rows wait behind its first, until enough
-- rows are locked. What follows the first of a key is taken up to what somebody else has locked or what is not due.
-- Arguments: bus, kinds (an array), limit, taken (the positions of what is claimed already). Result: the rows.

WITH RECURSIVE free AS MATERIALIZED (
    SELECT locked.*
    FROM unnest(CAST(%(kinds)s AS text[])) AS wanted (kind)
    CROSS JOIN LATERAL (
        SELECT position, kind, id, name, key, body, attempts
        FROM {table} AS row
        WHERE bus = %(bus)s AND row.kind = wanted.kind AND key IS NULL AND set_aside_at IS NULL AND due_at <= now()
        AND position <> ALL(CAST(%(taken)s AS bigint[]))
        ORDER BY due_at, position
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS locked
    LIMIT %(limit)s
),
first_rows AS (
    (
        SELECT key, position, due_at
        FROM {table}
        WHERE bus = %(bus)s AND key IS NOT NULL AND set_aside_at IS NULL
        ORDER BY key, position
        LIMIT 1
    )
    UNION ALL
    SELECT following.key, following.position, following.due_at
    FROM first_rows
    CROSS JOIN LATERAL (
        SELECT key, position, due_at
        FROM {table} AS row
        WHERE bus = %(bus)s AND row.key > first_rows.key AND key IS NOT NULL AND set_aside_at IS NULL
        ORDER BY key, position
        LIMIT 1
    ) AS following
),
heads AS MATERIALIZED (
    SELECT locked.*
    FROM first_rows
    CROSS JOIN LATERAL (
        SELECT position, kind, id, name, key, body, attempts
        FROM {table} AS row
        WHERE row.position = first_rows.position AND set_aside_at IS NULL AND due_at <= now()
        AND kind = ANY(CAST(%(kinds)s AS text[]))
        FOR UPDATE SKIP LOCKED
    ) AS locked
    WHERE first_rows.due_at <= now()
    LIMIT %(limit)s - (SELECT count(*) FROM free)
),
followers AS MATERIALIZED (
    SELECT locked.*, wanted.place
    FROM heads
    CROSS JOIN LATERAL (
        SELECT position, row_number() OVER (ORDER BY position) AS place
        FROM {table} AS row
        WHERE bus = %(bus)s AND row.key = heads.key AND position > heads.position AND set_aside_at IS NULL
        ORDER BY position
        LIMIT %(limit)s
    ) AS wanted
    CROSS JOIN LATERAL (
        SELECT position, kind, id, name, key, body, attempts
        FROM {table} AS row
        WHERE row.position = wanted.position AND set_aside_at IS NULL AND due_at <= now()
        AND kind = ANY(CAST(%(kinds)s AS text[]))
        FOR UPDATE SKIP LOCKED
    ) AS locked
    LIMIT %(limit)s - (SELECT count(*) FROM free) - (SELECT count(*) FROM heads)
),
unbroken AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY key ORDER BY position) AS turn FROM followers
    ) AS counted
    WHERE turn = place
)
SELECT * FROM free
UNION ALL
SELECT * FROM heads
UNION ALL
SELECT position, kind, id, name, key, body, attempts FROM unbroken
