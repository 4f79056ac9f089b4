-- Tell who holds a key.
-- KEYS[1..7]   as above
-- ARGV[1]      the key
-- Result:      false where nobody does, else [owner, token, since, expires (µs since 1970), 1 if it is shared else 0, holders, waiters]
--              of the holder that came first
local name = ARGV[1]
lock_of(name)
settle()
local holders = lock_of(name).holders
local first = holders[1]
local answer = false
if first then
    local waiting = redis.call('ZLEXCOUNT', QUEUES, '[' .. name .. '\0', '(' .. name .. '\1')
    answer = {first[OWNER], first[TOKEN], first[SINCE], first[EXPIRES], first[SHARED], #holders, waiting}
end
finish()
return answer
