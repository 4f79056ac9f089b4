-- Lock rows for a relay, until its transaction ends: those that are due and have none of their key before them, and then
-- what follows them, up to what somebody else has locked, and none of it where one is not due. Whoever has locked the
-- first of a key has all of them: nobody else takes what follows.
-- Only the first rows are looked at, so many as `window` says, because all of a long queue would take long. What is
-- before a row of those is one of them too. Locks are taken in materialized CTEs, so that they are taken once, and row by
-- row, so that they are not taken on more rows than the limit, whatever the planner makes of the rest.
-- The rows are read in the order of an index. Without figures the planner would rather sort them all, and with old ones
-- read those of all buses by position, were the bus a constant to it.
-- The server ends a transaction that says nothing for longer than the lease: whoever has the rows may have been stopped.
-- In a stricter isolation than this one a row that another relay has removed meanwhile would be an error.
-- Arguments: bus, kinds (an array), limit, window, lease (milliseconds).
-- Result: the rows, in order, each with whether there may be more than was looked at; where there are no rows, one of
-- which nothing but that is set.

SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL idle_in_transaction_session_timeout = %(lease)s;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
WITH window_rows AS MATERIALIZED (
    SELECT position, key, due_at <= now() AS is_due
    FROM {table}
    WHERE bus BETWEEN %(bus)s AND %(bus)s AND key IS NOT NULL AND set_aside_at IS NULL
    ORDER BY bus, position
    LIMIT %(window)s
),
free_rows AS MATERIALIZED (
    SELECT free.position
    FROM unnest(CAST(%(kinds)s AS text[])) AS wanted (kind)
    CROSS JOIN LATERAL (
        SELECT position
        FROM {table} AS row
        WHERE bus = %(bus)s AND row.kind = wanted.kind AND key IS NULL AND set_aside_at IS NULL AND due_at <= now()
        ORDER BY due_at, position
        LIMIT %(window)s
    ) AS free
    LIMIT %(window)s
),
first_rows AS MATERIALIZED (
    SELECT position FROM free_rows
    UNION ALL
    SELECT min(position) FROM window_rows GROUP BY key
),
heads AS MATERIALIZED (
    SELECT locked.*
    FROM (SELECT position FROM first_rows ORDER BY position) AS wanted
    CROSS JOIN LATERAL (
        SELECT position, kind, id, name, key, body, attempts
        FROM {table} AS row
        WHERE row.position = wanted.position AND set_aside_at IS NULL AND due_at <= now()
        AND kind = ANY(CAST(%(kinds)s AS text[]))
        FOR UPDATE SKIP LOCKED
    ) AS locked
    LIMIT %(limit)s
),
followers AS MATERIALIZED (
    SELECT locked.*, wanted.key AS of_key, wanted.place
    FROM (
        SELECT position, key, row_number() OVER (PARTITION BY key ORDER BY position) AS place FROM window_rows
        WHERE key IN (SELECT key FROM heads) AND position NOT IN (SELECT position FROM heads)
        AND key NOT IN (SELECT key FROM window_rows WHERE NOT is_due)
        ORDER BY position
    ) AS wanted
    CROSS JOIN LATERAL (
        SELECT position, kind, id, name, key, body, attempts
        FROM {table} AS row
        WHERE row.position = wanted.position AND set_aside_at IS NULL AND due_at <= now()
        AND kind = ANY(CAST(%(kinds)s AS text[]))
        FOR UPDATE SKIP LOCKED
    ) AS locked
    LIMIT %(limit)s - (SELECT count(*) FROM heads)
),
unbroken AS (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY of_key ORDER BY position) AS turn FROM followers
    ) AS counted
    WHERE turn = place
)
SELECT claimed.*, look.is_cut
FROM (
    SELECT %(window)s IN ((SELECT count(*) FROM window_rows), (SELECT count(*) FROM free_rows)) AS is_cut
) AS look
LEFT JOIN (
    SELECT * FROM heads
    UNION ALL
    SELECT position, kind, id, name, key, body, attempts FROM unbroken
) AS claimed ON true
ORDER BY position
