-- Look at some of the locks, and tell who holds them.
-- KEYS[1..7]   as above
-- ARGV[1]      where to go on; 0 at first
-- ARGV[2]      what the keys are like, as a pattern of Redis's own
-- ARGV[3]      how many are looked at, about
-- Result:      [where to go on, 0 at the end; [[key, owner, token, since, expires (µs since 1970), 1 if it is shared else 0, holders, waiters], ...]]
--              of the holders that came first
local step = redis.call('HSCAN', LOCKS, ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local found = {}
for index = 1, #step[2], 2 do
    local name = step[2][index]
    local holding = {}
    for _, holder in ipairs(cmsgpack.unpack(step[2][index + 1])[1]) do
        if not has_run_out(holder) then
            holding[#holding + 1] = holder
        end
    end
    local first = holding[1]
    if first then
        local waiting = redis.call('ZLEXCOUNT', QUEUES, '[' .. name .. '\0', '(' .. name .. '\1')
        found[#found + 1] = {name, first[OWNER], first[TOKEN], first[SINCE], first[EXPIRES], first[SHARED], #holding, waiting}
    end
end
return {step[1], found}
