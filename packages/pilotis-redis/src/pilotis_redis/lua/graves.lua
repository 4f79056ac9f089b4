-- Tell who died, the oldest first.
-- KEYS[1]  the dead letters of a lane
-- ARGV[1]  since when (ms), or -inf
-- ARGV[2]  until when, or +inf
-- ARGV[3]  how many, at most
-- Result:  [[time of death (ms), id], ...].
local found = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local graves = {}
for index = 1, #found, 2 do
    graves[#graves + 1] = {tonumber(found[index + 1]), found[index]}
end
return graves
