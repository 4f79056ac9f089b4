-- Drop a part of what waits in a lane. What is in flight stays.
-- KEYS[1..11]  the lane
-- ARGV[1]      how many entries of a kind, at most
-- Result:      [how many were dropped, 1 if there may be more].
local most = tonumber(ARGV[1])
local purged, is_more = 0, 0

local function drop_member(head)
    local member = cmsgpack.unpack(head)[MEMBER]
    if member ~= '' then
        redis.call('ZREM', part(1, CHAINS), member)
    end
end

local function note(number)
    purged = purged + number
    if number == most then
        is_more = 1
    end
end

local held = redis.call('HRANDFIELD', part(1, HELD), most)
for _, member in ipairs(held) do -- before what they wait for: nothing may take their place
    redis.call('HDEL', part(1, HELD), member)
    redis.call('ZREM', part(1, CHAINS), member)
end
note(#held)
if is_more == 1 then
    return {purged, 1}
end

local due = redis.call('ZRANGE', part(1, DUE), 0, most - 1)
for _, member in ipairs(due) do
    drop_member((cmsgpack.unpack(redis.call('HGET', part(1, ENTRIES), member))))
    redis.call('HDEL', part(1, ENTRIES), member)
    redis.call('ZREM', part(1, DUE), member)
end
note(#due)

for which = SUSPECT, LOW do
    local stream = part(1, which)
    local group = redis.call('XINFO', 'GROUPS', stream)[1]
    if group then
        local unread = redis.call('XRANGE', stream, '(' .. group[8], '+', 'COUNT', most)
        for _, entry in ipairs(unread) do
            drop_member((read_entry(entry)))
            redis.call('XDEL', stream, entry[1])
        end
        note(#unread)
    end
end
return {purged, is_more}
