-- End deliveries of one lane.
-- KEYS[1..3]   workers, sequence, news
-- KEYS[4..14]  the lane
-- ARGV[1]      the worker to whom they were handed out
-- ARGV[2]      the lane's name
-- ARGV[3]      a MessagePack array of [stream, entry id, verdict, ...]: 'done' and 'back' stand alone; a chain's member follows 'done' ('' without one);
--              after 'retry': delay (ms), 1 if the run counts; after 'dead': cause, error, traceback.
-- Result:      for each 1, or 0 where it is in nobody's hands any more: nothing happened then; 'dead' for a worker that is taken for dead.
local outcomes = cmsgpack.unpack(ARGV[3])
local result, counts = {}, {}
local now = now_ms()
local is_sooner = false

local function count(what)
    counts[what] = (counts[what] or 0) + 1
end

-- Take an entry away from its reader, and return its head and body.
local function withdraw(stream, id)
    local entry = redis.call('XRANGE', stream, id, id)[1]
    redis.call('XDEL', stream, id)
    return read_entry(entry)
end

local function go_on(member)
    if member ~= '' and advance(4, KEYS[2], member, now) then
        is_sooner = true
    end
end

local verdicts = {}

function verdicts.done(stream, outcome)
    redis.call('XDEL', part(4, STREAM[stream]), outcome[2])
    go_on(outcome[4])
    count('succeeded')
end

function verdicts.retry(stream, outcome)
    local head, body = withdraw(part(4, STREAM[stream]), outcome[2])
    local fields = cmsgpack.unpack(head)
    fields[ATTEMPTS] = fields[ATTEMPTS] + outcome[5]
    if outcome[5] == 1 and fields[FIRST] == 0 then -- what was only put off has not failed
        fields[FIRST] = now
    end
    if put(4, KEYS[2], fields[PRIORITY], cmsgpack.pack(fields), body, now + outcome[4], now) then
        is_sooner = true
    end
    count('retried')
end

function verdicts.dead(stream, outcome)
    local head, body = withdraw(part(4, STREAM[stream]), outcome[2])
    bury(4, head, body, outcome[4], outcome[5], outcome[6], ARGV[1], now)
    go_on(cmsgpack.unpack(head)[MEMBER])
    count('died')
end

function verdicts.back(stream, outcome)
    local head, body = withdraw(part(4, STREAM[stream]), outcome[2])
    redis.call('XADD', part(4, stream == 's' and SUSPECT or HIGH), '*', 'h', head, 'b', body)
end

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    need_no_room(KEYS[1])
    count_up(4, 'fenced', #outcomes)
    return 'dead'
end
for index, outcome in ipairs(outcomes) do
    local stream = outcome[1]
    result[index] = redis.call('XACK', part(4, STREAM[stream]), GROUP, outcome[2])
    if result[index] == 1 then
        verdicts[outcome[3]](stream, outcome)
        count('delivered') -- what is in flight is counted apart
    end
end
for what, number in pairs(counts) do
    count_up(4, what, number)
end
if is_sooner then
    tell(KEYS[3], ARGV[2])
end
return result
