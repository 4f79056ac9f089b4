-- Tell what a run has recorded.
-- KEYS[1]  what all keys begin with
-- ARGV[1]  the run
-- Result:  [its head and journal, how its waits stand], both as flat arrays; of a run that does not exist both are empty.
return {redis.call('HGETALL', key('r', ARGV[1])), redis.call('HGETALL', key('w', ARGV[1]))}
