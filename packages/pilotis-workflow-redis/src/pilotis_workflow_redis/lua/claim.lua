-- Hand out runs to a worker, the oldest first; and where there are none, have it be rung for those that come.
-- KEYS[1]     what all keys begin with
-- ARGV[1..3]  the worker, how many runs at most, 1 if it waits where there are none
-- ARGV[4..5]  the number of this claim, and from which one on it had no answer: it is handed out again what those took. A claim that was held up
--             and arrives after a later one takes nothing: nobody waits for its answer, and nobody would ask again
-- ARGV[6..]   the workflows that it knows
-- Result:     'dead' for a worker that is taken for dead; else [[id, head and journal as a flat array, waits as a flat array], ...],
--             the id of its bell's last entry, until the next timer (ms, -1: there is none).
local worker, limit, ticket, unanswered = ARGV[1], tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local FIRST_FLOW = 6
local hand = key('o', worker)
local taken = {}

if not is_alive(worker) then
    return 'dead'
end
if tonumber(ticket) < tonumber(redis.call('ZSCORE', base .. 'hands', worker) or 0) then
    return {taken, '0-0', -1}
end

local function add(id)
    redis.call('HSET', hand, id, ticket)
    taken[#taken + 1] = {id, redis.call('HGETALL', key('r', id)), redis.call('HGETALL', key('w', id))}
end

local function take(from, id)
    redis.call('ZREM', from, id)
    local run = look(id)
    if not run then -- somebody removed it
        return
    end
    become(run, run.status == 'compensating' and 'compensating' or 'running', 'worker', worker, 'epoch', run.epoch + 1)
    if run.crashes > 0 then
        redis.call('HSET', hand, '', id)
    end
    add(id)
end

local function take_again()
    local holding = redis.call('HGETALL', hand)
    for at = 1, #holding, 2 do
        if holding[at] ~= '' and tonumber(holding[at + 1]) >= unanswered then
            add(holding[at])
        end
    end
end

-- Return the oldest run of a queue, and its number.
local function first_of(name)
    local first = redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')
    return first[1], tonumber(first[2])
end

local queues = {}
for at = FIRST_FLOW, #ARGV do
    redis.call('SREM', key('i', ARGV[at]), worker)
    queues[#queues + 1] = {key('q', ARGV[at]), ARGV[at]}
    queues[#queues + 1] = {key('s', ARGV[at]), ARGV[at], true}
end
redis.call('SREM', key('i', ''), worker)
redis.call('ZADD', base .. 'hands', ticket, worker)
if unanswered < tonumber(ticket) then
    take_again()
end

for _, each in ipairs(queues) do
    each.id, each.number = first_of(each[1])
end

-- Return the queue with the oldest run that this worker may have.
local function oldest()
    local found
    local may_suspect = redis.call('HEXISTS', hand, '') == 0
    for _, each in ipairs(queues) do
        if each.id and (may_suspect or not each[3]) and (not found or each.number < found.number) then
            found = each
        end
    end
    return found
end

local following = oldest()
while following and #taken < limit do
    take(following[1], following.id)
    following.id, following.number = first_of(following[1])
    following = oldest()
end
if #taken > 0 then
    for _, each in ipairs(queues) do -- what is left is for others
        if each.id then
            ring(each[2])
        end
    end
end

local next_due = redis.call('ZRANGE', base .. 'tm', 0, 0, 'WITHSCORES')[2]
local left = next_due and math.max(0, next_due - now) or -1
if #taken == 0 and ARGV[3] == '1' and left ~= 0 then
    for at = FIRST_FLOW, #ARGV do
        be_idle(ARGV[at], worker)
    end
    be_idle('', worker)
end
local bell = redis.call('XREVRANGE', key('b', worker), '+', '-', 'COUNT', 1)[1]
return {taken, bell and bell[1] or '0-0', left}
