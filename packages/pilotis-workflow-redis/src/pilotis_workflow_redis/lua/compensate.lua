-- Let a run turn to its compensations. Its epoch is raised; the worker keeps it.
-- KEYS[1]     what all keys begin with
-- ARGV[1..2]  the run and the epoch of the writer
-- ARGV[3]     if given, the fault that it is compensated for
-- ARGV[4]     how it ends when that goes well
-- Result:     its head; 'fenced' where the writer has the run no more: nothing happened.
local run = held(ARGV[1], ARGV[2])
if not run then
    return 'fenced'
end
if given(ARGV[3]) then
    redis.call('HSET', key('r', run.id), 'error', given(ARGV[3]))
end
become(run, 'compensating', 'verdict', ARGV[4], 'epoch', run.epoch + 1)
return head(run.id)
