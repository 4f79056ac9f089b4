-- Reads the next token, and then which advisory locks a process has: whoever lost them before that may have a successor by
-- now, whose token is lower. What has to come second depends on the token, and reads no more of pg_locks than it needs.
-- process: its number. Result: the token, and the numbers of the locks.
SELECT token, ARRAY(
    SELECT (classid::bigint << 32) | objid::bigint
    FROM pg_lock_status()
    WHERE token IS NOT NULL AND pid = %(process)s AND locktype = 'advisory' AND granted AND objsubid = 1
)
FROM (SELECT nextval('{table}_token') AS token OFFSET 0) AS next
