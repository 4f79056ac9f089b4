-- Takes advisory locks that last until the caller's transaction ends, or not all of them: then roll back to the
-- savepoint, else release it. Parameters as in try_transaction.sql. Result: the process, and whether all were taken.
SAVEPOINT pilotis_lock;
SELECT pg_backend_pid(), bool_and({lock}(number)) FROM unnest(%(numbers)s::bigint[]) AS number;
