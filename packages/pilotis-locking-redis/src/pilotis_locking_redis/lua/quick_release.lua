-- First the way of a grant whose keys nobody else has anything to do with: it needs none of what follows.
local function quickly_released()
    local owner, token, members = ARGV[1], tonumber(ARGV[2]), {}
    for index, packed in ipairs(redis.call('HMGET', LOCKS, unpack(ARGV, 4))) do
        local holders, reserved, queued = unpack(packed and cmsgpack.unpack(packed) or {{}, {}, 0})
        local holder = holders[1]
        if #holders ~= 1 or #reserved + queued > 0 or holder[OWNER] ~= owner or holder[TOKEN] > token or holder[EXPIRES] <= now then
            return false
        end
        members[index] = owner .. '\0' .. ARGV[index + 3]
    end
    redis.call('HDEL', LOCKS, unpack(ARGV, 4))
    redis.call('ZREM', OWNERS, unpack(members))
    return true
end

local REMEMBERED_MS = 60000

-- Have the same answer for whoever asks again because this one was lost.
local function remembered()
    redis.call('SET', KEYS[5], ARGV[2], 'PX', REMEMBERED_MS)
    return 1
end

if #ARGV < 1000 and quickly_released() then
    return remembered()
end
