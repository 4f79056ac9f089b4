-- Write journal records, all or none.
-- KEYS[1]     what all keys begin with
-- ARGV[1..2]  the run and the epoch of the writer
-- ARGV[3..]   key, record, key, record, ...
-- Result:     1 if the run was asked to be cancelled, else 0; 'fenced' where the writer has it no more: nothing happened.
local run = held(ARGV[1], ARGV[2])
if not run then
    return 'fenced'
end
write(run.id, 3, #ARGV)
go_further(run)
return redis.call('HEXISTS', key('r', run.id), 'cancelled')
