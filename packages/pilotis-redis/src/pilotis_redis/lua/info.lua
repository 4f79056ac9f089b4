-- Tell how a lane is doing.
-- KEYS[1]      paused
-- KEYS[2..12]  the lane
-- ARGV[1]      the lane's name
-- Result:      [paused, queued, held, delayed, until the next of these is due (ms, -1: nothing is delayed), in flight, dead,
--              how long the oldest has been due (ms, -1: nothing waits), counters as a flat array].
local now = now_ms()
local overdue = redis.call('ZCOUNT', part(2, DUE), '-inf', now) -- what nobody has moved yet
local first_due = overdue > 0 and redis.call('ZRANGE', part(2, DUE), 0, 0, 'WITHSCORES')[2]
local queued, in_flight, oldest = overdue, 0, first_due and now - first_due or -1
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
local next_due = redis.call('ZRANGEBYSCORE', part(2, DUE), '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
return {
    redis.call('SISMEMBER', KEYS[1], ARGV[1]),
    queued,
    redis.call('HLEN', part(2, HELD)),
    redis.call('ZCARD', part(2, DUE)) - overdue,
    next_due and next_due - now or -1,
    in_flight,
    redis.call('ZCARD', part(2, DEAD)),
    oldest,
    redis.call('HGETALL', part(2, COUNTERS)),
}
