-- Free what is held under a grant.
-- KEYS[1..7]   as above
-- ARGV[1]      the owner
-- ARGV[2]      the token
-- ARGV[3]      1 if this is sent again, because the answer was lost, else 0
-- ARGV[4..]    the keys
-- Result:      1 if all of them were held, else 0; what is sent again has the answer that was lost
local REMEMBERED_RELEASES = 4096
local REMEMBERED_MS = 60000

local owner, token = ARGV[1], tonumber(ARGV[2])

local released = 0
for index = 4, #ARGV do
    local name = ARGV[index]
    released = released + drop(name, lock_of(name), function(holder)
        return holder[OWNER] == owner and holder[TOKEN] <= token
    end)
end
finish()

local place = token % REMEMBERED_RELEASES
if released == #ARGV - 3 then
    redis.call('HSET', FREED, place, ARGV[2])
    if redis.call('PTTL', FREED) < REMEMBERED_MS then
        redis.call('PEXPIRE', FREED, 2 * REMEMBERED_MS)
    end
    return 1
end
return ARGV[3] == '1' and redis.call('HGET', FREED, place) == ARGV[2] and 1 or 0
