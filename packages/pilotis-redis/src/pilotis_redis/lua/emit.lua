-- Put entries into lanes. Either all of what one call says, or nothing.
-- KEYS[1..4]   version, sequence, news, tail
-- KEYS[5]      the group that is released by this, or any key of the bus where there is none
-- KEYS[6..]    the keys of each lane, eleven by eleven; then, for each entry in turn, that of its id, and that of its `dedupe` if it has one
-- ARGV[1]      the version of the registry by which lanes were chosen
-- ARGV[2]      how many entries the group must have, -1 where none is released
-- ARGV[3]      1 if the group goes with this call, the last of its release
-- ARGV[4]      how many lanes there are
-- ARGV[5..]    the names of the lanes; then for each entry three: what is said of it, its head, its body. The first is a MessagePack array of
--              [id, delay (ms), priority, key or false, id_ttl (ms), dedupe_ttl (ms) or false, [lane, lane, ...]], lanes counted from 0
-- Result:      for each entry false, or the id of the one that it repeats; 'stale' where the registry or the group is not what it was: nothing happened.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'stale'
end
local staged = tonumber(ARGV[2])
if staged >= 0 and redis.call('LLEN', KEYS[5]) ~= staged then
    return 'stale'
end
local FIRST_LANE = 6
local count = tonumber(ARGV[4])
local now = now_ms()
local watched = redis.call('EXISTS', KEYS[4]) == 1
local memory = FIRST_LANE + count * LANE_KEYS
local repetitions, sooner, taken = {}, {}, {}

-- Return the id that an entry repeats, or nil once it is remembered.
local function repeated(id, id_key, id_ttl, dedupe_key, dedupe_ttl)
    if redis.call('EXISTS', id_key) == 1 then
        return id
    end
    if dedupe_key and dedupe_ttl > 0 then
        local other = redis.call('SET', dedupe_key, id, 'NX', 'GET', 'PX', dedupe_ttl)
        if other then
            return other
        end
    end
    if id_ttl > 0 then
        redis.call('SET', id_key, '', 'PX', id_ttl)
    end
end

for index = 1, (#ARGV - 4 - count) / 3 do
    local said = 2 + count + index * 3
    local id, delay, priority, key, id_ttl, dedupe_ttl, lanes = unpack(cmsgpack.unpack(ARGV[said]), 1, 7)
    local head, body = ARGV[said + 1], ARGV[said + 2]
    local id_key = KEYS[memory]
    local dedupe_key = dedupe_ttl and KEYS[memory + 1]
    memory = memory + (dedupe_ttl and 2 or 1)
    local other = #lanes > 0 and repeated(id, id_key, id_ttl, dedupe_key, dedupe_ttl)
    repetitions[index] = other
    for _, lane in ipairs(other and {} or lanes) do
        local at, is_first, fields = FIRST_LANE + lane * LANE_KEYS, true, nil
        if key then
            fields = cmsgpack.unpack(head)
            is_first = enchain(at, KEYS[2], fields, redis.sha1hex(key) .. ':')
            head = cmsgpack.pack(fields)
        end
        if not is_first then
            redis.call('HSET', part(at, HELD), fields[MEMBER], cmsgpack.pack(head, body, now + delay))
        elseif put(at, KEYS[2], priority, head, body, now + delay, now) then
            sooner[lane] = true
        end
        taken[lane] = (taken[lane] or 0) + 1
    end
    if watched and not other then
        redis.call('PUBLISH', KEYS[4], cmsgpack.pack(head, body))
    end
end

for lane, number in pairs(taken) do
    redis.call('HINCRBY', part(FIRST_LANE + lane * LANE_KEYS, COUNTERS), 'emitted', number)
end
for lane in pairs(sooner) do
    tell(KEYS[3], ARGV[5 + lane])
end
if ARGV[3] == '1' then
    redis.call('UNLINK', KEYS[5])
end
return repetitions
