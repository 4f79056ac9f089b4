-- Free what an owner holds: some keys, or whatever it is.
-- KEYS[1..4]   as above
-- ARGV[1]      the owner
-- ARGV[2]      how many are freed at most where no keys are named
-- ARGV[3..]    the keys; none for all
-- Result:      [how many were freed, 1 if there may be more else 0]
local owner, most = ARGV[1], tonumber(ARGV[2])
local released = 0

local function release(name)
    released = released + drop(name, lock_of(name), function(holder) return holder[OWNER] == owner end)
end

local found = 0
if #ARGV > 2 then
    for index = 3, #ARGV do
        release(ARGV[index])
    end
else
    local members = redis.call('ZRANGEBYLEX', OWNERS, '[' .. owner .. '\0', '(' .. owner .. '\1', 'LIMIT', 0, most)
    found = #members
    for _, member in ipairs(members) do
        release(string.sub(member, #owner + 2))
        redis.call('ZREM', OWNERS, member)
    end
end
finish()
return {released, found == most and 1 or 0}
