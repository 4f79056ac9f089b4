-- Have a worker be alive for a while longer, and find those that are not.
-- KEYS[1..2]  workers, infos
-- ARGV[1]     the worker
-- ARGV[2]     for how long it is taken for alive, in milliseconds
-- Result:     [1, or 0 if it was taken for dead; the workers that were found dead now].
local now = now_ms()
local is_alive = redis.call('ZADD', KEYS[1], 'XX', 'CH', now + ARGV[2], ARGV[1])
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for _, worker in ipairs(dead) do
    redis.call('ZREM', KEYS[1], worker)
    redis.call('HDEL', KEYS[2], worker)
end
return {is_alive, dead}
