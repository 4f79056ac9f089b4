-- Tells of keys that are held. namespace; first, last: the bounds of the keys, the last one not included; most: how
-- many keys. Result: key, owner, token, since, expires and shared of the first holder, how many hold, how many wait.
SELECT key, owner, token, since, expires, shared, holders, (
    SELECT count(*) FROM {table}_queue AS entry
    WHERE entry.namespace = %(namespace)s AND entry.key = state.key AND NOT reserved AND until > clock_timestamp()
)
FROM (
    SELECT DISTINCT ON (key) key, owner, token, since, expires, shared, count(*) OVER (PARTITION BY key) AS holders
    FROM {table}
    WHERE namespace = %(namespace)s AND key >= %(first)s AND key < %(last)s AND expires > clock_timestamp()
    ORDER BY key, token
    LIMIT %(most)s
) AS state
ORDER BY key;
