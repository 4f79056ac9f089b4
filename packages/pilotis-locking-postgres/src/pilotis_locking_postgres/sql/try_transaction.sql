-- Takes advisory locks that last until the transaction ends, which begins here, or not all of them.
-- {lock}: the function that tries to take one. numbers: in the order in which everybody takes them.
-- Result: the server's process, and whether all were taken.
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = 0;
{endless}SELECT pg_backend_pid(), bool_and({lock}(number)) FROM unnest(%(numbers)s::bigint[]) AS number;
