-- What all scripts on locks begin with.
-- KEYS[1..4]   tokens, locks, owners, queues: docs/design/locking.md says what is under each
local TOKENS, LOCKS, OWNERS, QUEUES = unpack(KEYS)

-- Of a holder
local OWNER, TOKEN, SINCE, EXPIRES, SHARED, TAKEN_BY = 1, 2, 3, 4, 5, 6

-- What a waiter's id has before it, among locks
local WAITER = '\0'

local SLACK = 60000

-- Of how many microseconds one is that of a sweep
local SWEEP_EVERY = 16

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Return a number that is higher than all before, even those that were lost with a server: it is a time.
local function next_number()
    local last = tonumber(redis.call('SET', TOKENS, string.format('%.0f', now), 'GET') or 0)
    if last < now then
        return now
    end
    redis.call('SET', TOKENS, string.format('%.0f', last + 1))
    return last + 1
end

-- Have nothing stay behind, whatever becomes of everybody; and nothing end before the last who needs it.
local function last_until(moment, ...)
    local left = math.ceil((moment - now) / 1000)
    for _, key in ipairs({...}) do
        if redis.call('PTTL', key) < left then
            redis.call('PEXPIRE', key, left + SLACK)
        end
    end
end
