-- Put dead letters back into their lane, with all their attempts; each once, however many ask.
-- KEYS[1]      sequence
-- KEYS[2..12]  the lane
-- ARGV[1..]    ids
-- Result:      how many were put back.
local now = now_ms()
local replayed = 0
for _, id in ipairs(ARGV) do
    if redis.call('ZREM', part(2, DEAD), id) == 1 then
        local head, body = cmsgpack.unpack(redis.call('HGET', part(2, LETTERS), id))
        redis.call('HDEL', part(2, LETTERS), id)
        local fields = cmsgpack.unpack(head)
        fields[ATTEMPTS], fields[CRASHES], fields[FIRST] = 0, 0, 0
        local is_first = true
        if fields[MEMBER] ~= '' then
            is_first = enchain(2, KEYS[1], fields, string.sub(fields[MEMBER], 1, 41))
        end
        head = cmsgpack.pack(fields)
        if is_first then
            put(2, KEYS[1], fields[PRIORITY], head, body, now, now)
        else
            redis.call('HSET', part(2, HELD), fields[MEMBER], cmsgpack.pack(head, body, now))
        end
        replayed = replayed + 1
    end
end
return replayed
