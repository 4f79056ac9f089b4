-- Ask for a run to be cancelled; one that waits or is stuck goes on, to be so.
-- KEYS[1]  what all keys begin with
-- ARGV[1]  the run
-- Result:  the state it had, or false where there is none.
local run = look(ARGV[1])
if not run then
    return false
end
local status = run.status
if not ENDED[status] then
    redis.call('HSET', key('r', run.id), 'cancelled', 1)
    if status == 'waiting' or status == 'stuck' then
        set_going(run)
    end
end
return status
