-- Tell how a lane is doing.
-- KEYS[1]      paused
-- KEYS[2..12]  the lane
-- ARGV[1]      the lane's name
-- Result:      [paused, queued, held, delayed, until the next is due (ms, -1: nothing is delayed), in flight, dead,
--              how long the oldest has been ready (ms, -1: nothing waits), counters as a flat array].
local now = now_ms()
local queued, in_flight, oldest = 0, 0, -1
for which = SUSPECT, LOW do
    local stream = part(2, which)
    local group = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream)[1]
    if group then
        local pending = group[6]
        in_flight = in_flight + pending
        queued = queued + redis.call('XLEN', stream) - pending
        local first = redis.call('XRANGE', stream, '(' .. group[8], '+', 'COUNT', 1)[1]
        if first then
            oldest = math.max(oldest, now - string.match(first[1], '%d+'))
        end
    end
end
local due = redis.call('ZRANGE', part(2, DUE), 0, 0, 'WITHSCORES')[2]
return {
    redis.call('SISMEMBER', KEYS[1], ARGV[1]),
    queued,
    redis.call('HLEN', part(2, HELD)),
    redis.call('ZCARD', part(2, DUE)),
    due and math.max(0, due - now) or -1,
    in_flight,
    redis.call('ZCARD', part(2, DEAD)),
    oldest,
    redis.call('HGETALL', part(2, COUNTERS)),
}
