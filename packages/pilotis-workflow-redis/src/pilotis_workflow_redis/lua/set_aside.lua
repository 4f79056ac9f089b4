-- Have a run be stuck that its worker cannot read.
-- KEYS[1]     what all keys begin with
-- ARGV[1..3]  the run, the worker, the fault as it is recorded
-- Result:     1; 0 where the worker has the run no more: nothing happened.
local run = look(ARGV[1])
if not run or run.worker ~= ARGV[2] then
    return 0
end
set_aside(run, ARGV[3])
return 1
