-- Which advisory locks processes hold in this database. processes: their numbers.
-- Result: process and number of each lock.
SELECT pid, (classid::bigint << 32) | objid::bigint
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = ANY(%(processes)s)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
