-- Take runs away from workers that are dead, for others to have them. One that they die of again and again is stuck.
-- KEYS[1]     what all keys begin with
-- ARGV[1..2]  how many runs at most, and how many workers may die of a run that comes no further
-- ARGV[3]     the fault of one that more die of, as it is recorded
-- Result:     [how many were handed on, the ids of those that are stuck, 1 if there may be more].
local most, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[2])
local handed_on, stuck = 0, {}

local function rescue(run)
    run.crashes = run.crashes + 1
    if run.crashes < max_crashes then
        hand_back(run)
        handed_on = handed_on + 1
    else
        set_aside(run, ARGV[3])
        stuck[#stuck + 1] = run.id
    end
end

-- Return whether nothing is left of what a dead worker had.
local function clear(worker)
    local hand = key('o', worker)
    for _, id in ipairs(redis.call('HKEYS', hand)) do
        if handed_on + #stuck >= most then
            return false
        end
        local run = id ~= '' and look(id)
        if run and run.worker == worker then
            rescue(run)
        end
        redis.call('HDEL', hand, id)
    end
    return true
end

for _, worker in ipairs(redis.call('ZRANGE', base .. 'hands', 0, -1)) do
    if not is_alive(worker) then
        if not clear(worker) then
            return {handed_on, stuck, 1}
        end
        redis.call('ZREM', base .. 'hands', worker)
    end
end
return {handed_on, stuck, 0}
