-- First the way of a request for keys that nobody has anything to do with: it needs none of what follows.
local function quickly_taken()
    local id, owner, expires = ARGV[1], ARGV[2], now + ARGV[3]
    for _, known in ipairs(redis.call('HMGET', LOCKS, WAITER .. id, unpack(ARGV, 8))) do
        if known then
            return nil
        end
    end
    local token = next_number()
    local packed = cmsgpack.pack({{{owner, token, now, expires, tonumber(ARGV[4]), id}}, {}, 0})
    local fields, members = {}, {}
    for index = 8, #ARGV do
        local at = (index - 8) * 2
        fields[at + 1], fields[at + 2] = ARGV[index], packed
        members[at + 1], members[at + 2] = 0, owner .. '\0' .. ARGV[index]
    end
    redis.call('HSET', LOCKS, unpack(fields))
    redis.call('ZADD', OWNERS, unpack(members))
    last_until(expires, OWNERS, LOCKS)
    return token
end

-- Lua cannot hand on more than a few thousand values at once; and now and then somebody has to sweep.
if #ARGV < 1000 and now % SWEEP_EVERY ~= 0 then
    local token = quickly_taken()
    if token then
        return token
    end
end
