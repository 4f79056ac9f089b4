-- Takes advisory locks that last until the caller's transaction ends. Afterwards release the savepoint; a time-out, and
-- going back to the savepoint, leave the transaction as it was. The caller's own settings are put back.
-- Parameters as in lock_transaction.sql. Result: the server's process.
SAVEPOINT pilotis_lock;
SELECT set_config('pilotis.' || name, current_setting(name), true)
FROM unnest(ARRAY['lock_timeout', 'statement_timeout', 'client_connection_check_interval']) AS name
WHERE current_setting(name, true) IS NOT NULL;
{check}
SET LOCAL lock_timeout = %(wait)s;
SET LOCAL statement_timeout = %(wait)s;
SELECT {lock}(number) FROM unnest(%(numbers)s::bigint[]) AS number;
SELECT set_config(name, current_setting('pilotis.' || name), true)
FROM unnest(ARRAY['lock_timeout', 'statement_timeout', 'client_connection_check_interval']) AS name
WHERE current_setting('pilotis.' || name, true) IS NOT NULL;
SELECT pg_backend_pid();
