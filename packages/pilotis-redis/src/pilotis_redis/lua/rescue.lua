-- Hand on what those hold who are not alive.
-- KEYS[1..3]   workers, sequence, news
-- KEYS[4..14]  the lane
-- ARGV[1]      the lane's name
-- ARGV[2]      how many entries of a stream, at most
-- ARGV[3]      how many workers may die of an entry before it is a dead letter
-- Result:      [how many were handed on, how many are dead letters now, 1 if there may be more].
local most, max_crashes = tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local rescued, died, is_sooner, is_more = 0, 0, false, 0

local function hand_on(stream, consumer, id)
    redis.call('XACK', stream, GROUP, id)
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if not entry then
        return
    end
    redis.call('XDEL', stream, id)
    local body = entry[2][4]
    local fields = cmsgpack.unpack(entry[2][2])
    fields[CRASHES] = fields[CRASHES] + 1
    fields[FIRST] = fields[FIRST] > 0 and fields[FIRST] or now
    local head = cmsgpack.pack(fields)
    if fields[CRASHES] < max_crashes then
        redis.call('XADD', part(4, SUSPECT), '*', 'h', head, 'b', body)
        rescued = rescued + 1
        return
    end
    bury(4, head, body, 'crashed', fields[CRASHES] .. ' workers died while they handled it', '', consumer, now)
    if fields[MEMBER] ~= '' and advance(4, KEYS[2], fields[MEMBER], now) then
        is_sooner = true
    end
    died = died + 1
end

for which = SUSPECT, LOW do
    local stream = part(4, which)
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, GROUP)) do
        local name, pending = consumer[2], consumer[4]
        if not redis.call('ZSCORE', KEYS[1], name) then
            for _, entry in ipairs(redis.call('XPENDING', stream, GROUP, '-', '+', most, name)) do
                hand_on(stream, name, entry[1])
                pending = pending - 1
            end
            if pending > 0 then
                is_more = 1
            else
                redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, name)
            end
        end
    end
end
if died > 0 then
    redis.call('HINCRBY', part(4, COUNTERS), 'died', died)
end
if is_sooner then
    tell(KEYS[3], ARGV[1])
end
return {rescued, died, is_more}
