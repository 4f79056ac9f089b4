-- Free what is held under a grant.
-- KEYS[1..4]   as above
-- KEYS[5]      one of those in which it is kept for a minute what was released last
-- ARGV[1]      the owner
-- ARGV[2]      the token
-- ARGV[3]      1 if this is sent again, because the answer was lost, else 0
-- ARGV[4..]    the keys
-- Result:      1 if all of them were held, else 0; what is sent again has the answer that was lost
local owner, token = ARGV[1], tonumber(ARGV[2])
local released = 0
for index = 4, #ARGV do
    local name = ARGV[index]
    released = released + drop(name, lock_of(name), function(holder)
        return holder[OWNER] == owner and holder[TOKEN] <= token
    end)
end
finish()
if released == #ARGV - 3 then
    return remembered()
end
return ARGV[3] == '1' and redis.call('GET', KEYS[5]) == ARGV[2] and 1 or 0
