-- Write waiting records and let go of the run, unless one of them is over already or the run was asked to be cancelled.
-- KEYS[1]     what all keys begin with
-- ARGV[1..3]  the run, the epoch of the writer, and, if given, until the run goes on by itself (ms)
-- ARGV[4..]   for each record five: key, record, what tells this wait from others, and if given the signal and until it is due (ms).
--             One that does not wait has '' in the third place.
-- Result:     [1 if the run was asked to be cancelled, [[record, answer or false], ...] for those that are over];
--             'fenced' where the writer has the run no more: nothing happened.
local run = held(ARGV[1], ARGV[2])
if not run then
    return 'fenced'
end
local FIRST, EACH = 4, 5
local id, waits = run.id, key('w', ARGV[1])
local resolved, waiting = {}, {}

local function note(at)
    resolved[#resolved + 1] = {redis.call('HGET', key('r', id), ':' .. ARGV[at]), redis.call('HGET', waits, 'a' .. ARGV[at])}
end

local function is_over(record, token)
    local found = redis.call('HMGET', waits, 's' .. record, 't' .. record)
    return found[1] and found[1] ~= 'waiting' and found[2] == token
end

-- Take a letter that is there already for a record. Returns whether there was one.
local function take_in(at)
    local signal = given(ARGV[at + 3])
    local letter = signal and take_letter(id, signal)
    if not letter then
        return false
    end
    begin_wait(id, ARGV[at], ARGV[at + 2], false, false)
    redis.call('HSET', key('r', id), ':' .. ARGV[at], ARGV[at + 1])
    end_wait(id, ARGV[at], state_after(letter), string.sub(letter, 2))
    return true
end

for at = FIRST, #ARGV, EACH do
    if ARGV[at + 2] == '' then
        write(id, at, at)
    elseif is_over(ARGV[at], ARGV[at + 2]) or take_in(at) then
        note(at)
    else
        waiting[#waiting + 1] = at
    end
end

go_further(run)
local cancelled = redis.call('HEXISTS', key('r', id), 'cancelled')
local is_undoing = run.status == 'compensating'
if #resolved > 0 or (cancelled == 1 and not is_undoing) then
    return {cancelled, resolved}
end
for _, at in ipairs(waiting) do
    redis.call('HSET', key('r', id), ':' .. ARGV[at], ARGV[at + 1])
    begin_wait(id, ARGV[at], ARGV[at + 2], given(ARGV[at + 3]), given(ARGV[at + 4]))
end
clear_timer(run_timer(id))
if given(ARGV[3]) then
    set_timer(run_timer(id), now + given(ARGV[3]))
end
let_go(run)
become(run, is_undoing and 'compensating' or 'waiting', 'worker', '')
return {0, {}}
