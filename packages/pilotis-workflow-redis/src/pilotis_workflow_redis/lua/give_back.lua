-- Let go of a run, for any worker to have it.
-- KEYS[1]     what all keys begin with
-- ARGV[1..2]  the run and the epoch of the writer
-- Result:     1; 'fenced' where the writer has the run no more: nothing happened.
local run = held(ARGV[1], ARGV[2])
if not run then
    return 'fenced'
end
hand_back(run)
return 1
