-- Has grants last their ttl from now, each whole or not at all. Arrays, an entry for each key of each grant:
-- grants: which grant it is of; keys; owners; tokens; ttls: seconds. Result: the grants that are held.
WITH asked AS (
    SELECT * FROM unnest(
        %(grants)s::int[], %(keys)s::text[], %(owners)s::text[], %(tokens)s::bigint[], %(ttls)s::float8[]
    ) AS one("grant", key, owner, token, ttl)
), held AS (
    SELECT asked."grant", lease.key, lease.owner, asked.ttl
    FROM asked JOIN {table} AS lease
        ON lease.namespace = %(namespace)s AND lease.key = asked.key AND lease.owner = asked.owner
    WHERE lease.token <= asked.token AND lease.expires > clock_timestamp()
    ORDER BY lease.key, lease.owner FOR UPDATE OF lease
), whole AS (
    SELECT "grant" FROM asked GROUP BY "grant"
    HAVING count(*) = (SELECT count(*) FROM held WHERE held."grant" = asked."grant")
), lasting AS (
    SELECT key, owner, max(ttl) AS ttl FROM held JOIN whole USING ("grant") GROUP BY key, owner
), renewed AS (
    UPDATE {table} AS lease
    SET expires = greatest(lease.expires, clock_timestamp() + make_interval(secs => lasting.ttl))
    FROM lasting
    WHERE lease.namespace = %(namespace)s AND lease.key = lasting.key AND lease.owner = lasting.owner
)
SELECT "grant" FROM whole;
