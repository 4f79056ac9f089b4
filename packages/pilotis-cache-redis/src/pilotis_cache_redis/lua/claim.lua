-- Take a key for a computation, unless something else is there.
-- KEYS[1]  the key
-- ARGV[1]  the mark of who computes
-- ARGV[2]  how long the claim lasts, in milliseconds
-- ARGV[3]  what may be replaced, if anything: a value that is out of date
-- Result:  false if the key is claimed now; else what is there, and for how many milliseconds more (-1: for good).
-- MGET, not GET, which fails where there is no text under the key.
local there = redis.call('MGET', KEYS[1])[1]
if there and there ~= ARGV[3] then
    return {there, redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
