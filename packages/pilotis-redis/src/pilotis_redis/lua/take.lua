-- Hand entries out to a worker, as many as it has capacity for; what is due becomes ready first.
-- KEYS[1..4]   workers, paused, sequence, the bell of this read
-- KEYS[5..]    the keys of each lane, eleven by eleven
-- ARGV[1]      the worker
-- ARGV[2]      1 if it may have a suspect, else 0
-- ARGV[3]      how many delayed entries may become ready, at most
-- ARGV[4]      the bells that were heard, as a MessagePack array of entry ids
-- ARGV[5..]    for each lane its name and its capacity
-- Result:      'dead' for a worker that is taken for dead; else for each lane [paused (0 or 1), until the next is due (ms, -1: nothing is delayed),
--              more is due (0 or 1), [stream, entry id, head, body, stream, ...]], or false where there is no such lane.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 'dead'
end
for _, id in ipairs(cmsgpack.unpack(ARGV[4])) do
    redis.call('XACK', KEYS[4], GROUP, id)
    redis.call('XDEL', KEYS[4], id)
end
local may_suspect = ARGV[2] == '1'
local movable = tonumber(ARGV[3])
local now = now_ms()

-- Make ready what is due. Return whether more of it is.
local function mature(at)
    local due = redis.call('ZRANGEBYSCORE', part(at, DUE), '-inf', now, 'LIMIT', 0, movable)
    for _, member in ipairs(due) do
        local head, body = cmsgpack.unpack(redis.call('HGET', part(at, ENTRIES), member))
        redis.call('ZREM', part(at, DUE), member)
        redis.call('HDEL', part(at, ENTRIES), member)
        local stream = cmsgpack.unpack(head)[PRIORITY]
        redis.call('XADD', part(at, STREAM[stream]), '*', 'h', head, 'b', body)
    end
    movable = movable - #due
    return #due > 0 and movable == 0
end

-- Read one stream into `found`, and return how many entries that were.
local function read(at, stream, most, found)
    local reply = redis.call('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', most, 'STREAMS', part(at, STREAM[stream]), '>')
    if not reply then
        return 0
    end
    local entries = reply[1][2]
    for _, entry in ipairs(entries) do
        local fields = entry[2]
        found[#found + 1] = stream
        found[#found + 1] = entry[1]
        found[#found + 1] = fields[2]
        found[#found + 1] = fields[4] or ''
    end
    return #entries
end

local function take(at, lane, capacity)
    if redis.call('EXISTS', part(at, SUSPECT), part(at, HIGH), part(at, NORMAL), part(at, LOW)) < 4 then
        return false
    end
    local paused = redis.call('SISMEMBER', KEYS[2], lane)
    local more_due = movable > 0 and mature(at)
    local found = {}
    if paused == 0 and capacity > 0 then
        if may_suspect and read(at, 's', 1, found) > 0 then
            capacity = capacity - 1
            may_suspect = false
        end
        for _, stream in ipairs({'h', 'n', 'l'}) do
            if capacity > 0 then
                capacity = capacity - read(at, stream, capacity, found)
            end
        end
    end
    local next_due = redis.call('ZRANGE', part(at, DUE), 0, 0, 'WITHSCORES')[2]
    return {paused, next_due and math.max(0, next_due - now) or -1, more_due and 1 or 0, found}
end

local result = {}
for index = 1, (#ARGV - 4) / 2 do
    result[index] = take(5 + (index - 1) * LANE_KEYS, ARGV[3 + index * 2], tonumber(ARGV[4 + index * 2]))
end
return result
