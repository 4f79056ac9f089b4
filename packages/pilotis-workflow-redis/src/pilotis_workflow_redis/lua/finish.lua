-- Bring a run to rest.
-- KEYS[1]     what all keys begin with
-- ARGV[1..3]  the run, the epoch of the writer, the state
-- ARGV[4..5]  if given: the result, the fault
-- ARGV[6]     the letter that tells its parent
-- Result:     its head; 'fenced' where the writer has the run no more: nothing happened.
local run = held(ARGV[1], ARGV[2])
if not run then
    return 'fenced'
end
local id, name = run.id, key('r', ARGV[1])

local function keep(field, text)
    if text then
        redis.call('HSET', name, field, text)
    else
        redis.call('HDEL', name, field)
    end
end

local function tell_parent()
    local parent = redis.call('HGET', name, 'parent')
    local other = parent and look(parent)
    if other and not ENDED[other.status] then
        deliver(other, '@child:' .. id, ARGV[6])
    end
end

-- Let nothing wake it any more, but its retention.
local function end_times()
    clear_timer(run_timer(id))
    for _, field in ipairs(redis.call('HKEYS', key('w', id))) do
        if string.sub(field, 1, 1) == 's' then
            clear_timer(record_timer(id, string.sub(field, 2)))
        end
    end
    local retention = redis.call('HGET', name, 'retention')
    if retention then
        set_timer(retention_timer(id), now + retention)
    end
end

let_go(run)
go_further(run)
keep('result', given(ARGV[4]))
keep('error', given(ARGV[5]))
become(run, ARGV[3], 'worker', '')
if ENDED[run.status] then
    redis.call('UNLINK', key('m', id))
    end_times()
    tell_parent()
end
return head(id)
