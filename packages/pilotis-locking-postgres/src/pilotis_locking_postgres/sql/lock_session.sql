-- Takes advisory locks that last as long as the connection. Parameters and result as in lock_transaction.sql.
BEGIN;
{check}
SET LOCAL lock_timeout = %(wait)s;
SET LOCAL statement_timeout = %(wait)s;
SELECT {lock}(number) FROM unnest(%(numbers)s::bigint[]) AS number;
COMMIT;
SELECT pg_backend_pid();
