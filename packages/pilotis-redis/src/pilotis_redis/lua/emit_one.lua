-- Put one entry into lanes where nothing is out of the ordinary: it is due, has no key and no `dedupe`, and nobody looks on.
-- entries.lua does not stand before it: to make those functions would take as long as all that is done here.
-- KEYS[1..3]   version, the entry's id, tail
-- KEYS[4..]    what is due of each lane; then the stream of the entry's priority of each; then the counters of each
-- ARGV[1]      the version of the registry by which lanes were chosen; empty where there is none
-- ARGV[2..4]   for how long the id is remembered (ms, 0: not at all), the head, the body
-- Result:      1; or false where anything is out of the ordinary: nothing happened, and emit.lua is to be asked.
local lanes = (#KEYS - 3) / 3

local function has_overdue()
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    for at = 4, 3 + lanes do
        local first = redis.call('ZRANGE', KEYS[at], 0, 0, 'WITHSCORES')[2]
        if first and tonumber(first) <= now then
            return true
        end
    end
    return false
end

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
    return false
end
-- One question for the id, the tail and all that is delayed: mostly there is nothing of it.
if redis.call('EXISTS', unpack(KEYS, 2, 3 + lanes)) > 0 and (redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 or has_overdue()) then
    return false
end
for at = 4 + lanes, 3 + 2 * lanes do
    redis.call('XADD', KEYS[at], '*', 'h', ARGV[3], 'b', ARGV[4])
    redis.call('HINCRBY', KEYS[at + lanes], 'emitted', 1)
end
if lanes > 0 and ARGV[2] ~= '0' then -- only now: what fails half-way, because a key was spoilt, is not taken for done
    redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
end
return 1
