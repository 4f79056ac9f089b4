-- Hand on what those hold who are not alive.
-- KEYS[1..3]  workers, sequence, news
-- KEYS[4..]   the keys of each lane, eleven by eleven
-- ARGV[1]     how many entries, at most
-- ARGV[2..]   for each lane its name, and how many workers may die of an entry before it is a dead letter
-- Result:     for each lane [how many were handed on, how many are dead letters now, 1 if there may be more].
local budget = tonumber(ARGV[1])
local now = now_ms()

-- Hand one entry on. Returns whether it is a dead letter now, and whether something is due sooner than all else of the lane.
local function hand_on(at, stream, consumer, id, max_crashes)
    redis.call('XACK', stream, GROUP, id)
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if not entry then
        return false, false
    end
    redis.call('XDEL', stream, id)
    local head, body = read_entry(entry)
    local fields = cmsgpack.unpack(head)
    fields[CRASHES] = fields[CRASHES] + 1
    fields[FIRST] = fields[FIRST] > 0 and fields[FIRST] or now
    head = cmsgpack.pack(fields)
    if fields[CRASHES] < max_crashes then
        local has_more_chances = fields[CRASHES] + 1 < max_crashes
        redis.call('XADD', part(at, has_more_chances and HIGH or SUSPECT), '*', 'h', head, 'b', body)
        return false, false
    end
    bury(at, head, body, 'crashed', fields[CRASHES] .. ' workers died while they handled it', '', consumer, now)
    return true, fields[MEMBER] ~= '' and advance(at, KEYS[2], fields[MEMBER], now)
end

local function rescue(at, lane, max_crashes)
    local rescued, died, is_sooner, is_more = 0, 0, false, 0
    for which = SUSPECT, LOW do
        local stream = part(at, which)
        local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, GROUP)
        for _, consumer in ipairs(consumers.err and {} or consumers) do -- it fails where the lane is gone
            local name, pending = consumer[2], consumer[4]
            if not redis.call('ZSCORE', KEYS[1], name) then
                local entries = pending > 0 and budget > 0 and redis.call('XPENDING', stream, GROUP, '-', '+', budget, name) or {}
                for _, entry in ipairs(entries) do
                    local is_dead, sooner = hand_on(at, stream, name, entry[1], max_crashes)
                    died = died + (is_dead and 1 or 0)
                    rescued = rescued + (is_dead and 0 or 1)
                    is_sooner = is_sooner or sooner
                end
                budget = budget - #entries
                if pending > #entries then
                    is_more = 1
                else
                    redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, name)
                end
            end
        end
    end
    count_up(at, 'delivered', rescued + died)
    count_up(at, 'died', died)
    if is_sooner then
        tell(KEYS[3], lane)
    end
    return {rescued, died, is_more}
end

local result = {}
for index = 1, (#ARGV - 1) / 2 do
    result[index] = rescue(4 + (index - 1) * LANE_KEYS, ARGV[index * 2], tonumber(ARGV[index * 2 + 1]))
end
return result
