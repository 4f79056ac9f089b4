-- What the scripts of runs share; it stands before each of them. docs/design/workflow.md says what is under each key.
--
-- KEYS[1] is what all keys of a namespace begin with, its hash tag included. The other keys are made of it here: which of them a script needs shows
-- only when it looks. Times are milliseconds of the server's clock. What may be missing is given as '' or as '=' and the text.

local HEAD = {'status', 'made', 'flow', 'created', 'epoch', 'worker', 'updated', 'deadline', 'result', 'error', 'cancelled', 'verdict', 'crashes'}
local ENDED = {completed = true, failed = true, compensated = true, cancelled = true}
local MOST_NOTICES = 10000
local base = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function key(kind, name)
    return base .. kind .. ':' .. name
end

local function given(text)
    return text ~= '' and string.sub(text, 2)
end

-- Runs

-- Return what scripts decide by, or nil where there is no such run.
local function look(id)
    local found = redis.call('HMGET', key('r', id), 'status', 'epoch', 'worker', 'name', 'flow', 'number', 'created', 'verdict', 'crashes')
    if not found[1] then
        return nil
    end
    return {
        id = id, status = found[1], epoch = tonumber(found[2]) or 0, worker = found[3], name = found[4], flow = found[5],
        number = tonumber(found[6]) or 0, created = found[7], verdict = found[8], crashes = tonumber(found[9] or 0) or 0,
    }
end

-- Return the run if whoever writes still has it.
local function held(id, epoch)
    local run = look(id)
    return run and run.worker ~= '' and run.epoch == tonumber(epoch) and run or nil
end

local function at_rest(run)
    return ENDED[run.status] or run.status == 'stuck'
end

local function head(id)
    return redis.call('HMGET', key('r', id), unpack(HEAD))
end

local function index(status, name)
    return key('x', status .. ':' .. name)
end

-- Return what stands for a run in the indexes: of those made at the same time, the later one is the greater.
local function place(run)
    return string.format('%016x', run.number) .. run.id
end

-- Leave a notice for subscribers, if there are any. It goes when they do.
local function tell(event, run)
    local left = redis.call('PTTL', base .. 'listened')
    if left <= 0 then
        return
    end
    local fields = {'id', run.id}
    for at, value in ipairs(head(run.id)) do
        if value then
            fields[#fields + 1] = HEAD[at]
            fields[#fields + 1] = value
        end
    end
    redis.call('XADD', base .. 'notices', 'MAXLEN', '~', MOST_NOTICES, '*', 'event', event, unpack(fields))
    redis.call('PEXPIRE', base .. 'notices', left)
end

-- Have a run be in a state, and change some of its fields with that.
local function become(run, status, ...)
    redis.call('HSET', key('r', run.id), 'status', status, 'updated', now, ...)
    if status == run.status then
        return
    end
    redis.call('ZREM', index(run.status, run.name), place(run))
    redis.call('ZADD', index(status, run.name), run.created, place(run))
    run.status = status
    if status ~= 'pending' then
        tell('run.' .. status, run)
    end
    if at_rest(run) then
        redis.call('PUBLISH', key('e', run.id), status)
    end
end

-- Workers

local function is_alive(worker)
    return redis.call('ZSCORE', base .. 'w', worker)
end

local function ring_bell(worker)
    return redis.call('XADD', key('b', worker), 'NOMKSTREAM', 'MAXLEN', 1, '*', 'w', '')
end

-- End the waits of two idle workers that know a workflow, or of any where that is '': one of them may be dead, and nobody know it yet.
local function ring(flow)
    local rung = 0
    repeat
        local worker = redis.call('SPOP', key('i', flow))
        if worker and is_alive(worker) and ring_bell(worker) then
            rung = rung + 1
        end
    until not worker or rung == 2
end

-- Note a worker as idle, and no longer those that died so.
local function be_idle(flow, worker)
    local idle = key('i', flow)
    redis.call('SADD', idle, worker)
    if redis.call('SCARD', idle) > redis.call('ZCARD', base .. 'w') then
        for _, other in ipairs(redis.call('SMEMBERS', idle)) do
            if not is_alive(other) then
                redis.call('SREM', idle, other)
            end
        end
    end
end

-- A run of which a worker died is suspect until it comes further. Nobody has two such runs: the one that kills shall take no other along.
local function queue(run)
    return key(run.crashes > 0 and 's' or 'q', run.flow)
end

local function clear_suspicion(run)
    local hand = key('o', run.worker)
    if redis.call('HGET', hand, '') == run.id then
        redis.call('HDEL', hand, '')
        ring_bell(run.worker)
    end
end

local function make_ready(run)
    redis.call('ZADD', queue(run), run.number, run.id)
    ring(run.flow)
end

local function let_go(run)
    redis.call('HDEL', key('o', run.worker), run.id)
    clear_suspicion(run)
end

-- Take a run away from its worker, for any to have it.
local function hand_back(run)
    let_go(run)
    become(run, run.status == 'compensating' and 'compensating' or 'pending', 'worker', '', 'crashes', run.crashes)
    make_ready(run)
end

-- Have a run be stuck because of a fault. One that is compensated remembers why.
local function set_aside(run, fault)
    let_go(run)
    redis.call(run.verdict and 'HSETNX' or 'HSET', key('r', run.id), 'error', fault)
    become(run, 'stuck', 'worker', '', 'crashes', run.crashes)
end

-- Note that a run came further.
local function go_further(run)
    if run.crashes > 0 then
        redis.call('HSET', key('r', run.id), 'crashes', 0)
        clear_suspicion(run)
    end
end

-- Let a run that waits or rests go on.
local function set_going(run)
    become(run, run.verdict and 'compensating' or 'pending')
    make_ready(run)
end

local function wake(run)
    local is_parked = run.worker == '' and not at_rest(run) and not redis.call('ZSCORE', queue(run), run.id)
    if is_parked then
        set_going(run)
    end
end

-- Times

local function set_timer(timer, due)
    redis.call('ZADD', base .. 'tm', due, timer)
    if redis.call('ZRANGE', base .. 'tm', 0, 0)[1] == timer then
        ring('')
    end
end

local function clear_timer(timer)
    redis.call('ZREM', base .. 'tm', timer)
end

-- The timers of a run: that of a record, that of its own time being over, and that of its retention.
local function record_timer(id, record)
    return 'k' .. #id .. ':' .. id .. record
end

local function run_timer(id)
    return 'd' .. id
end

local function retention_timer(id)
    return 'x' .. id
end

-- Waits: of each record its state (s), what tells this wait from others (t), the signal that ends it (n) and the answer (a); of each signal
-- those that wait for it (q).

local function in_line(id, signal)
    local line = redis.call('HGET', key('w', id), 'q' .. signal)
    return line and cmsgpack.unpack(line) or {}
end

local function keep_line(id, signal, line)
    if #line == 0 then
        redis.call('HDEL', key('w', id), 'q' .. signal)
    else
        redis.call('HSET', key('w', id), 'q' .. signal, cmsgpack.pack(line))
    end
end

local function leave_line(id, signal, record)
    local line = {}
    for _, other in ipairs(in_line(id, signal)) do
        if other ~= record then
            line[#line + 1] = other
        end
    end
    keep_line(id, signal, line)
end

-- Let nothing end the wait of a record any more.
local function unhook(id, record)
    local signal = redis.call('HGET', key('w', id), 'n' .. record)
    if signal then
        leave_line(id, signal, record)
    end
    clear_timer(record_timer(id, record))
end

-- Forget the wait of a record, if it had one.
local function forget_wait(id, record)
    if redis.call('HEXISTS', key('w', id), 's' .. record) == 1 then
        unhook(id, record)
        redis.call('HDEL', key('w', id), 's' .. record, 't' .. record, 'n' .. record, 'a' .. record)
    end
end

-- End the wait of a record: what a letter brought is kept with the time.
local function end_wait(id, record, state, letter)
    unhook(id, record)
    redis.call('HSET', key('w', id), 's' .. record, state)
    if letter then
        redis.call('HSET', key('w', id), 'a' .. record, now .. ' ' .. letter)
    end
end

local function begin_wait(id, record, token, signal, delay)
    forget_wait(id, record)
    redis.call('HSET', key('w', id), 's' .. record, 'waiting', 't' .. record, token)
    if signal then
        redis.call('HSET', key('w', id), 'n' .. record, signal)
        local line = in_line(id, signal)
        line[#line + 1] = record
        keep_line(id, signal, line)
    end
    if delay then
        set_timer(record_timer(id, record), now + delay)
    end
end

-- Write journal records, which are given as pairs of key and text from ARGV[first] to ARGV[last].
local function write(id, first, last)
    local has_waits = redis.call('EXISTS', key('w', id)) == 1
    for at = first, last, 2 do
        redis.call('HSET', key('r', id), ':' .. ARGV[at], ARGV[at + 1])
        if has_waits then
            forget_wait(id, ARGV[at])
        end
    end
end

-- Letters: '1' before one with a fault, '0' before another.

local function state_after(letter)
    return string.sub(letter, 1, 1) == '1' and 'due' or 'done'
end

-- Put a letter into the mailbox: a hash of letters by number and signal, with the number of the last one (l) and of the last one taken (f).
local function post(id, signal, letter)
    local box = key('m', id)
    local number = redis.call('HINCRBY', box, 'l' .. signal, 1)
    redis.call('HSET', box, number .. ' ' .. signal, letter)
end

-- Take the oldest letter out of the mailbox.
local function take_letter(id, signal)
    local box = key('m', id)
    local ends = redis.call('HMGET', box, 'f' .. signal, 'l' .. signal)
    local first, last = tonumber(ends[1] or 0) + 1, tonumber(ends[2] or 0)
    if first > last then
        return nil
    end
    local letter = redis.call('HGET', box, first .. ' ' .. signal)
    redis.call('HDEL', box, first .. ' ' .. signal)
    redis.call('HSET', box, 'f' .. signal, first)
    return letter
end

-- Deliver a letter: to the first record that waits for it, else to the mailbox.
local function deliver(run, signal, letter)
    local first = in_line(run.id, signal)[1]
    if first then
        end_wait(run.id, first, state_after(letter), string.sub(letter, 2))
        wake(run)
    else
        post(run.id, signal, letter)
    end
end
