-- Takes advisory locks that last until the transaction ends, which begins here.
-- {lock}: the function that takes one. {check}: of check_waiter.sql. {endless}: sets no limit where there may be one.
-- numbers: in the order in which everybody takes them. wait: milliseconds, for all of them together.
-- Result: the server's process.
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = 0;
{endless}{check}
SET LOCAL lock_timeout = %(wait)s;
SET LOCAL statement_timeout = %(wait)s;
SELECT {lock}(number) FROM unnest(%(numbers)s::bigint[]) AS number;
SET LOCAL statement_timeout = 0;
SELECT pg_backend_pid();
