-- Takes advisory locks that last until the caller's transaction ends. Afterwards release the savepoint; a time-out, and
-- going back to the savepoint, leave the transaction as it was. The caller's own time-outs are put back.
-- Parameters as in lock_transaction.sql. Result: the server's process.
SAVEPOINT pilotis_lock;
SELECT
    set_config('pilotis.lock_timeout', current_setting('lock_timeout'), true),
    set_config('pilotis.statement_timeout', current_setting('statement_timeout'), true);
SET LOCAL lock_timeout = %(wait)s;
SET LOCAL statement_timeout = %(wait)s;
SELECT {lock}(number) FROM unnest(%(numbers)s::bigint[]) AS number;
SELECT
    set_config('lock_timeout', current_setting('pilotis.lock_timeout'), true),
    set_config('statement_timeout', current_setting('pilotis.statement_timeout'), true);
SELECT pg_backend_pid();
