-- What is told of a lock: [key, owner, token, since, expires (µs since 1970), 1 if it is shared else 0, holders, waiters]. Owner to
-- shared are those of the holder that came first. False where nobody holds it.
local function state_of(name, holders)
    local first = holders[1]
    if not first then
        return false
    end
    local waiting = redis.call('ZLEXCOUNT', QUEUES, '[' .. name .. '\0', '(' .. name .. '\1')
    return {name, first[OWNER], first[TOKEN], first[SINCE], first[EXPIRES], first[SHARED], #holders, waiting}
end
