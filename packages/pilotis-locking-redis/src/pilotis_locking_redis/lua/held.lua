-- Look at some of the locks, and tell who holds them.
-- KEYS[1..4]   as above
-- ARGV[1]      where to go on; 0 at first
-- ARGV[2]      what the keys are like, as a pattern of Redis's own
-- ARGV[3]      how many are looked at, about
-- Result:      [where to go on, 0 at the end; their states]
local function still_holding(packed)
    local holders = {}
    for _, holder in ipairs(cmsgpack.unpack(packed)[1]) do
        if not has_run_out(holder) then
            holders[#holders + 1] = holder
        end
    end
    return holders
end

local step = redis.call('HSCAN', LOCKS, ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local states = {}
for index = 1, #step[2], 2 do
    local name = step[2][index]
    local state = string.sub(name, 1, 1) ~= WAITER and state_of(name, still_holding(step[2][index + 1]))
    if state then
        states[#states + 1] = state
    end
end
return {step[1], states}
