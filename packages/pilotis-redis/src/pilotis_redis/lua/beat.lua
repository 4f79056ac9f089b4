-- Have a worker be alive for a while longer, and tell of those that are not.
-- KEYS[1..2]  workers, the worker's bell
-- ARGV[1]     the worker
-- ARGV[2]     for how long it is taken for alive, in milliseconds
-- ARGV[3]     1 if it may tell who is dead: after an outage, the others are late too
-- Result:     [1, or 0 if it was taken for dead; some of those whose time is over].
local now = now_ms()
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return {0, {}}
end
need_no_room(KEYS[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
keep_bell(KEYS[2], ARGV[2])
return {1, ARGV[3] == '1' and redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100) or {}}
