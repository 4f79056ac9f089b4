-- Asks for keys: see the function in schema.sql. Result: the token and the patience.
SELECT granted, patience FROM {table}_take(
    %(namespace)s, %(keys)s::text[], %(owner)s, %(ttl)s::float8, %(shared)s, %(permits)s::integer, %(ticket)s,
    %(stay)s::float8, %(channel)s, %(listener)s::integer
);
