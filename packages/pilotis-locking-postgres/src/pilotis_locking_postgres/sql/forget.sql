-- Forgets leases and waiters of a namespace that are over. What somebody else is at work on is passed over: waiting for
-- it, out of the order in which the others lock rows, could close a circle.
DELETE FROM {table} WHERE (namespace, key, owner) IN (
    SELECT namespace, key, owner FROM {table}
    WHERE namespace = %(namespace)s AND expires < clock_timestamp() FOR UPDATE SKIP LOCKED
);
DELETE FROM {table}_queue WHERE (namespace, key, ticket) IN (
    SELECT namespace, key, ticket FROM {table}_queue
    WHERE namespace = %(namespace)s AND until < clock_timestamp() FOR UPDATE SKIP LOCKED
);
