-- Put entries into lanes. Either all of what one call says, or nothing.
-- KEYS[1..4]   version, sequence, news, tail
-- KEYS[5]      the group that is released by this, or any key of the bus where there is none
-- KEYS[6..]    the keys of each lane, eleven by eleven; then, for each entry in turn, that of its id, and that of its `dedupe` if it has one
-- ARGV[1]      the version of the registry by which lanes were chosen; empty where there is none
-- ARGV[2]      how many entries the group must have, -1 where none is released
-- ARGV[3]      the id of the last of them
-- ARGV[4]      1 if the group goes with this call, the last of its release
-- ARGV[5]      how many lanes there are
-- ARGV[6..]    the names of the lanes; then for each entry three: what is said of it, its head, its body. The first is a MessagePack array of
--              [id, delay (ms), priority, key or false, id_ttl (ms), dedupe_ttl (ms) or false, [lane, lane, ...]], lanes counted from 0
-- Result:      for each entry false, or the id of the one that it repeats; 'stale' where the registry or the group is not what it was: nothing happened.
local FIRST_LANE, FIRST_NAME = 6, 6

local function is_stale()
    if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
        return true
    end
    local staged = tonumber(ARGV[2])
    if staged < 0 then
        return false
    end
    local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
    return not last or last[1] ~= ARGV[3] or redis.call('XLEN', KEYS[5]) ~= staged
end

if is_stale() then
    return 'stale'
end
local count = tonumber(ARGV[5])
local now = now_ms()
local watched = redis.call('EXISTS', KEYS[4]) == 1
local memory = FIRST_LANE + count * LANE_KEYS
local repetitions, sooner, taken, overdue = {}, {}, {}, {}

-- Return the id of the entry that this one repeats, or false.
local function repeated(id, id_key, dedupe_key)
    if redis.call('EXISTS', id_key) == 1 then
        return id
    end
    return dedupe_key and redis.call('GET', dedupe_key)
end

local function remember(id, id_key, id_ttl, dedupe_key, dedupe_ttl)
    if id_ttl > 0 then
        redis.call('SET', id_key, '', 'PX', id_ttl)
    end
    if dedupe_key and dedupe_ttl > 0 then
        redis.call('SET', dedupe_key, id, 'PX', dedupe_ttl)
    end
end

-- Tell whether a lane has something that is due, and that nobody has moved yet.
local function has_overdue(at)
    if overdue[at] == nil then
        local first = redis.call('ZRANGE', part(at, DUE), 0, 0, 'WITHSCORES')[2]
        overdue[at] = first ~= nil and tonumber(first) <= now
    end
    return overdue[at]
end

-- Put an entry where it belongs, and behind what has been due for longer.
local function put_in_order(at, priority, head, body, due)
    if priority ~= 'h' and due <= now and has_overdue(at) then
        return delay_entry(at, KEYS[2], head, body, due)
    end
    return put(at, KEYS[2], priority, head, body, due, now)
end

local function put_into(lane, priority, key, head, body, due)
    local at = FIRST_LANE + lane * LANE_KEYS
    taken[lane] = (taken[lane] or 0) + 1
    if not key then
        return put_in_order(at, priority, head, body, due)
    end
    local fields = cmsgpack.unpack(head)
    local is_first = enchain(at, KEYS[2], fields, redis.sha1hex(key) .. ':')
    head = cmsgpack.pack(fields)
    if is_first then
        return put_in_order(at, priority, head, body, due)
    end
    redis.call('HSET', part(at, HELD), fields[MEMBER], cmsgpack.pack(head, body, due))
    return false
end

for index = 1, (#ARGV - FIRST_NAME + 1 - count) / 3 do
    local said = FIRST_NAME + count + (index - 1) * 3
    local id, delay, priority, key, id_ttl, dedupe_ttl, lanes = unpack(cmsgpack.unpack(ARGV[said]), 1, 7)
    local head, body = ARGV[said + 1], ARGV[said + 2]
    local id_key = KEYS[memory]
    local dedupe_key = dedupe_ttl and KEYS[memory + 1]
    memory = memory + (dedupe_ttl and 2 or 1)
    local other = #lanes > 0 and repeated(id, id_key, dedupe_key)
    repetitions[index] = other
    if not other then
        for _, lane in ipairs(lanes) do
            if put_into(lane, priority, key, head, body, now + delay) then
                sooner[lane] = true
            end
        end
        if #lanes > 0 then -- only now: what fails half-way, because a key was spoilt, is not taken for done
            remember(id, id_key, id_ttl, dedupe_key, dedupe_ttl)
        end
        if watched then
            redis.call('XADD', KEYS[4], 'MAXLEN', '~', 500, '*', 's', ARGV[said], 'h', head, 'b', body)
        end
    end
end

for lane, number in pairs(taken) do
    redis.call('HINCRBY', part(FIRST_LANE + lane * LANE_KEYS, COUNTERS), 'emitted', number)
end
for lane in pairs(sooner) do
    tell(KEYS[3], ARGV[FIRST_NAME + lane])
end
if ARGV[4] == '1' then
    redis.call('UNLINK', KEYS[5])
end
return repetitions
