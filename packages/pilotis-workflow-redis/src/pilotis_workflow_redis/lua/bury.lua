-- Take runs away from a worker that has gone, for others to have them.
-- KEYS[1]  what all keys begin with
-- ARGV[1]  the worker
-- ARGV[2]  how many runs, at most
-- Result:  how many there were.
local hand = key('o', ARGV[1])
local buried = 0
for _, id in ipairs(redis.call('HKEYS', hand)) do
    if id ~= '' and buried < tonumber(ARGV[2]) then
        local run = look(id)
        if run and run.worker == ARGV[1] then
            hand_back(run)
            buried = buried + 1
        end
        redis.call('HDEL', hand, id)
    end
end
if redis.call('HLEN', hand) == 0 then
    redis.call('ZREM', base .. 'hands', ARGV[1])
end
return buried
