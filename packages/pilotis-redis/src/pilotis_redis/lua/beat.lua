-- Have a worker be alive for a while longer, and find those that are not.
-- KEYS[1..4]  workers, infos, news, the worker's bell
-- ARGV[1]     the worker
-- ARGV[2]     for how long it is taken for alive, in milliseconds
-- ARGV[3]     1 if it may tell who is dead: after an outage, the others are late too
-- Result:     [1, or 0 if it was taken for dead; what those said of themselves that were found dead now].
local now = now_ms()
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return {0, {}}
end
need_no_room(KEYS[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[2] * BELL_OUTLIVES)
local infos = {}
local dead = ARGV[3] == '1' and redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100) or {}
for index, worker in ipairs(dead) do
    infos[index] = redis.call('HGET', KEYS[2], worker) or worker
    redis.call('ZREM', KEYS[1], worker)
    redis.call('HDEL', KEYS[2], worker)
end
if #dead > 0 then
    tell(KEYS[3], 'dead')
end
return {1, infos}
