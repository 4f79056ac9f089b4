-- Takes advisory locks that last as long as the connection, or not all of them. As in try_transaction.sql.
SELECT pg_backend_pid(), bool_and({lock}(number)) FROM unnest(%(numbers)s::bigint[]) AS number;
