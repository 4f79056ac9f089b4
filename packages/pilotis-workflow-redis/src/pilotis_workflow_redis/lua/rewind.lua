-- Set a run at rest going again with a part of its journal.
-- KEYS[1]     what all keys begin with
-- ARGV[1..2]  the run and its epoch
-- ARGV[3]     if given, its new deadline
-- ARGV[4..]   the keys of the records that stay
-- Result:     its head; false where there is none; 'fenced' unless it is at rest and has that epoch.
local run = look(ARGV[1])
if not run then
    return false
end
if not at_rest(run) or run.epoch ~= tonumber(ARGV[2]) then
    return 'fenced'
end
local id, name = run.id, key('r', ARGV[1])
local kept = {}
for at = 4, #ARGV do
    kept[ARGV[at]] = true
end
for _, field in ipairs(redis.call('HKEYS', name)) do
    local record = string.sub(field, 2)
    if string.sub(field, 1, 1) == ':' and not kept[record] then
        redis.call('HDEL', name, field)
        forget_wait(id, record)
    end
end
redis.call('HDEL', name, 'result', 'deadline', 'crashes')
if run.status ~= 'stuck' then
    redis.call('HDEL', name, 'error', 'verdict', 'cancelled')
end
if given(ARGV[3]) then
    redis.call('HSET', name, 'deadline', given(ARGV[3]))
end
redis.call('HINCRBY', name, 'epoch', 1)
clear_timer(retention_timer(id))
set_going(look(id))
return head(id)
