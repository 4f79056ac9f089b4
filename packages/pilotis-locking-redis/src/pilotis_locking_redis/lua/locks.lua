-- What all scripts on locks begin with: holders, reservations, queues.
-- A request takes its keys in sorted order. Those that it can have are reserved for it, without being held; it stands in the queue of
-- the first that it cannot have. When the last one falls to it, all become held at once. docs/design/locking.md has the reasons.
-- KEYS[1..7]   tokens, locks, ends, owners, queues, waiters, freed: what is under each is said there, too
local TOKENS, LOCKS, ENDS, OWNERS, QUEUES, WAITERS, FREED = unpack(KEYS)

-- Of a holder
local OWNER, TOKEN, SINCE, EXPIRES, SHARED, TAKEN_BY = 1, 2, 3, 4, 5, 6

local MOST_SWEPT = 4
local MOST_SERVED = 100
local SLACK = 60000
local WITHDRAWN = ''

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local locks, waiters, freer = {}, {}, {}
local served = 0

-- Return a number that is higher than all before, even those that were lost with a server: it is a time.
local function next_number()
    local number = math.max(now, (tonumber(redis.call('GET', TOKENS)) or 0) + 1)
    redis.call('SET', TOKENS, string.format('%.0f', number))
    return number
end

-- Locks

-- Take the lock from the holders of whom `is_over` says so, and return how many they were.
local function drop(name, lock, is_over)
    local kept = {}
    for _, holder in ipairs(lock.holders) do
        if is_over(holder) then
            redis.call('ZREM', OWNERS, holder[OWNER] .. '\0' .. name)
        else
            kept[#kept + 1] = holder
        end
    end
    local dropped = #lock.holders - #kept
    if dropped > 0 then
        lock.holders, lock.changed = kept, true
        freer[#freer + 1] = name
    end
    return dropped
end

local function has_run_out(holder)
    return holder[EXPIRES] <= now
end

-- Return a lock without those whose lease has run out.
local function lock_of(name)
    local lock = locks[name]
    if not lock then
        lock = {holders = {}, reserved = {}}
        local packed = redis.call('HGET', LOCKS, name)
        if packed then
            lock.holders, lock.reserved = unpack(cmsgpack.unpack(packed))
            lock.is_known = true
        end
        locks[name] = lock
        drop(name, lock, has_run_out)
    end
    return lock
end

local function holder_of(name, owner)
    for _, holder in ipairs(lock_of(name).holders) do
        if holder[OWNER] == owner then
            return holder
        end
    end
end

-- Return an owner's hold of a key where it lasted since the grant of a token: a higher one was granted after a break.
local function held_since(name, owner, token)
    local holder = holder_of(name, owner)
    return holder and holder[TOKEN] <= token and holder or nil
end

-- Tell whether nobody else holds a key, or has it reserved, in a way that excludes the request.
local function fits(name, request)
    local lock, others = lock_of(name), 0
    for _, list in ipairs({lock.holders, lock.reserved}) do
        for _, other in ipairs(list) do
            if other[OWNER] ~= request.owner then
                if request.shared == 0 or other[SHARED] == 0 then
                    return false
                end
                others = others + 1
            end
        end
    end
    return request.permits == 0 or others < request.permits
end

local function hold(name, request, token)
    local lock, holder = lock_of(name), holder_of(name, request.owner)
    if holder then
        holder[EXPIRES] = math.max(holder[EXPIRES], now + request.ttl)
        holder[SHARED] = math.min(holder[SHARED], request.shared)
    else
        lock.holders[#lock.holders + 1] = {request.owner, token, now, now + request.ttl, request.shared, request.id}
        redis.call('ZADD', OWNERS, 0, request.owner .. '\0' .. name)
    end
    lock.changed = true
end

-- Have a request hold all of its keys, and return the highest token that its owner has for them.
local function hold_all(request)
    local fresh, highest = nil, 0
    for _, name in ipairs(request.keys) do
        if not fresh and not holder_of(name, request.owner) then
            fresh = next_number()
        end
    end
    for _, name in ipairs(request.keys) do
        hold(name, request, fresh)
        highest = math.max(highest, holder_of(name, request.owner)[TOKEN])
    end
    return highest
end

-- Take back what a request took, and nothing that its owner had before.
local function give_back(names, owner, id)
    for _, name in ipairs(names) do
        drop(name, lock_of(name), function(holder) return holder[OWNER] == owner and holder[TAKEN_BY] == id end)
    end
end

-- Waiters

local function waiter_of(id)
    if waiters[id] == nil then
        local packed = redis.call('HGET', WAITERS, id)
        waiters[id] = packed and packed ~= WITHDRAWN and cmsgpack.unpack(packed) or false
    end
    return waiters[id]
end

local function channel_of(id)
    return WAITERS .. ':' .. id
end

local function is_heard(id)
    return redis.call('PUBSUB', 'NUMSUB', channel_of(id))[2] > 0
end

-- Tell whether a waiter has died: nobody listens any more where somebody did, or its time is over and it did not say so.
local function is_gone(waiter)
    return not waiter.is_here and (waiter.ends < now or (waiter.listens == 1 and not is_heard(waiter.id)))
end

local function place_of(waiter)
    return waiter.keys[waiter.place + 1]
end

local function unreserve(name, waiter)
    local lock, kept = lock_of(name), {}
    for _, one in ipairs(lock.reserved) do
        if one[TAKEN_BY] ~= waiter.id then
            kept[#kept + 1] = one
        end
    end
    lock.reserved, lock.changed = kept, true
end

local function forget(waiter)
    waiters[waiter.id] = false
    redis.call('HDEL', WAITERS, waiter.id)
    redis.call('ZREM', ENDS, '\0' .. waiter.id)
end

-- Leave nothing of a request that waits.
local function withdraw(waiter)
    if waiter.queued then
        redis.call('ZREM', QUEUES, waiter.queued)
        freer[#freer + 1] = place_of(waiter)
    end
    for index = 1, waiter.place do
        unreserve(waiter.keys[index], waiter)
        freer[#freer + 1] = waiter.keys[index]
    end
    forget(waiter)
end

-- Queues

local function head_of(name)
    return redis.call('ZRANGEBYLEX', QUEUES, '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', 0, 1)[1]
end

-- Tell whether a request may have a key at once. A lock that is not known has no queue.
local function passes(name, request)
    return fits(name, request) and (not lock_of(name).is_known or not head_of(name) or holder_of(name, request.owner) ~= nil)
end

-- Nobody who waits for a key could go before one who holds it.
local function queue(waiter, name)
    local rank = holder_of(name, waiter.owner) and '0' or '1'
    waiter.queued = string.format('%s\0%s%016.0f%s', name, rank, waiter.ticket, waiter.id)
    redis.call('ZADD', QUEUES, 0, waiter.queued)
    lock_of(name).changed = true
end

local function reserve(name, waiter)
    local lock = lock_of(name)
    lock.reserved[#lock.reserved + 1] = {waiter.owner, 0, now, waiter.ends, waiter.shared, waiter.id}
    lock.changed = true
    waiter.place = waiter.place + 1
end

local function grant(waiter)
    for _, name in ipairs(waiter.keys) do
        unreserve(name, waiter)
    end
    waiter.token = hold_all(waiter)
    if not waiter.is_here then
        redis.call('PUBLISH', channel_of(waiter.id), '')
    end
end

-- Reserve one key after the other, as far as they can be had, and grant when there is none left.
local function advance(waiter)
    waiter.changed, waiter.queued = true, nil
    while waiter.place < #waiter.keys do
        local name = place_of(waiter)
        if not passes(name, waiter) then
            return queue(waiter, name)
        end
        reserve(name, waiter)
    end
    grant(waiter)
end

-- Let those at the head of a queue go on. Where they are too many for one script, the next one is told to ask.
local function serve(name)
    local head = head_of(name)
    while head do
        local id = string.sub(head, #name + 19)
        local waiter = waiter_of(id)
        if served == MOST_SERVED then
            lock_of(name).changed = true
            redis.call('PUBLISH', channel_of(id), '')
            return
        elseif not waiter then
            redis.call('ZREM', QUEUES, head)
        elseif is_gone(waiter) then
            withdraw(waiter)
        elseif fits(name, waiter) then
            redis.call('ZREM', QUEUES, head)
            reserve(name, waiter)
            advance(waiter)
        else
            return
        end
        served = served + 1
        head = head_of(name)
    end
end

-- Beginning and end of every script

-- Find some of what has run out, wherever it is.
local function sweep()
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, MOST_SWEPT)) do
        if string.byte(member) ~= 0 then
            lock_of(member).changed = true
        else
            local id = string.sub(member, 2)
            local waiter = waiter_of(id)
            if waiter and not waiter.token then
                withdraw(waiter)
            else
                forget({id = id})
            end
        end
    end
end

-- Let others have what became free.
local function settle()
    local index = 1
    while index <= #freer do
        serve(freer[index])
        index = index + 1
    end
    freer = {}
end

local function next_end(lock)
    local first = math.huge
    for _, list in ipairs({lock.holders, lock.reserved}) do
        for _, one in ipairs(list) do
            first = math.min(first, one[EXPIRES])
        end
    end
    return first < math.huge and first or now
end

-- Have nothing stay behind, whatever becomes of everybody.
local function last_until(moment, ...)
    local left = math.ceil((moment - now) / 1000)
    for _, key in ipairs({...}) do
        if redis.call('PTTL', key) < left then
            redis.call('PEXPIRE', key, left + SLACK)
        end
    end
end

local function save_lock(name, lock)
    if #lock.holders + #lock.reserved == 0 and not (lock.is_known and head_of(name)) then
        redis.call('HDEL', LOCKS, name)
        redis.call('ZREM', ENDS, name)
        return 0
    end
    redis.call('HSET', LOCKS, name, cmsgpack.pack({lock.holders, lock.reserved}))
    redis.call('ZADD', ENDS, next_end(lock), name)
    local last = now
    for _, list in ipairs({lock.holders, lock.reserved}) do
        for _, one in ipairs(list) do
            last = math.max(last, one[EXPIRES])
        end
    end
    return last
end

local function save_waiter(id, waiter)
    redis.call('HSET', WAITERS, id, cmsgpack.pack(waiter))
    redis.call('ZADD', ENDS, waiter.ends, '\0' .. id)
    return waiter.ends
end

-- Let others have what became free, and keep what has changed.
local function finish()
    settle()
    local last_lock, last_waiter = 0, 0
    for name, lock in pairs(locks) do
        if lock.changed then
            last_lock = math.max(last_lock, save_lock(name, lock))
        end
    end
    for id, waiter in pairs(waiters) do
        if waiter and waiter.changed then
            last_waiter = math.max(last_waiter, save_waiter(id, waiter))
        end
    end
    if last_lock > 0 then
        last_until(last_lock, OWNERS, LOCKS, ENDS)
    end
    if last_waiter > 0 then
        last_until(last_waiter, WAITERS, QUEUES, LOCKS, ENDS)
    end
end
