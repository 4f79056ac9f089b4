-- Deliver a letter to a run.
-- KEYS[1]     what all keys begin with
-- ARGV[1..3]  the run, the signal, the letter
-- ARGV[4]     if given: what is taken once only
-- Result:     1 when it was taken, 0 when the run has ended, -1 when there is none.
local run = look(ARGV[1])
if not run then
    return -1
end
if ENDED[run.status] then
    return 0
end
if not given(ARGV[4]) or redis.call('SADD', key('d', run.id), given(ARGV[4])) == 1 then
    deliver(run, ARGV[2], ARGV[3])
end
return 1
