-- Holders, reservations and queues. A request takes its keys in sorted order. Those that it can have are reserved for it, without being
-- held; it stands in the queue of the first that it cannot have. When the last one falls to it, all become held at once.
local MOST_SERVED = 100
local MOST_CALLED = 1000
local SWEPT = 32

-- Takes the place of a request in a hold that is also another's of the same owner: then neither gives it back.
local NOBODY = ''

-- Lua cannot hand on more than a few thousand at once
local MOST_VALUES = 1000

local locks, waiters, freer = {}, {}, {}
local served = 0

local function write(command, key, values)
    for start = 1, #values, MOST_VALUES do
        redis.call(command, key, unpack(values, start, math.min(#values, start + MOST_VALUES - 1)))
    end
end

-- Locks

-- Take the lock from the holders of whom `is_over` says so, and return how many they were.
local function drop(name, lock, is_over)
    local over, others = {}, {}
    for _, holder in ipairs(lock.holders) do
        if is_over(holder) then
            over[#over + 1] = holder[OWNER] .. '\0' .. name
        else
            others[#others + 1] = holder
        end
    end
    if #over > 0 then
        write('ZREM', OWNERS, over)
        lock.holders, lock.changed, lock.by_owner = others, true, nil
        freer[#freer + 1] = name
    end
    return #over
end

local function has_run_out(holder)
    return holder[EXPIRES] <= now
end

-- Have a lock at hand, without those whose lease has run out.
local function note_lock(name, packed)
    local lock = {holders = {}, reserved = {}, queued = 0}
    if packed then
        lock.holders, lock.reserved, lock.queued = unpack(cmsgpack.unpack(packed))
    end
    locks[name] = lock
    drop(name, lock, has_run_out)
    return lock
end

local function lock_of(name)
    return locks[name] or note_lock(name, redis.call('HGET', LOCKS, name))
end

-- Have locks at hand that will be needed: it is quicker to ask for them together.
local function fetch(names)
    local missing = {}
    for _, name in ipairs(names) do
        if locks[name] == nil then
            locks[name] = false
            missing[#missing + 1] = name
        end
    end
    for start = 1, #missing, MOST_VALUES do
        local last = math.min(#missing, start + MOST_VALUES - 1)
        for index, packed in ipairs(redis.call('HMGET', LOCKS, unpack(missing, start, last))) do
            note_lock(missing[start + index - 1], packed)
        end
    end
end

local function by_owner(holders)
    local found = {}
    for _, holder in ipairs(holders) do
        found[holder[OWNER]] = holder
    end
    return found
end

local function holder_of(name, owner)
    local lock = lock_of(name)
    lock.by_owner = lock.by_owner or by_owner(lock.holders)
    return lock.by_owner[owner]
end

-- Return an owner's hold of a key where it lasted since the grant of a token: a higher one was granted after a break.
local function held_since(name, owner, token)
    local holder = holder_of(name, owner)
    return holder and holder[TOKEN] <= token and holder or nil
end

-- Tell whether nobody else holds a key, or has it reserved, in a way that excludes the request. An owner counts once.
local function fits(name, request)
    local lock, counted, others = lock_of(name), {}, 0
    for _, list in ipairs({lock.holders, lock.reserved}) do
        for _, other in ipairs(list) do
            if other[OWNER] ~= request.owner then
                if request.shared == 0 or other[SHARED] == 0 then
                    return false
                elseif request.permits > 0 and not counted[other[OWNER]] then
                    counted[other[OWNER]] = true
                    others = others + 1
                end
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
        if holder[TAKEN_BY] ~= request.id then
            holder[TAKEN_BY] = NOBODY
        end
    else
        holder = {request.owner, token, now, now + request.ttl, request.shared, request.id}
        lock.holders[#lock.holders + 1] = holder
        lock.by_owner[request.owner] = holder
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
        local packed = redis.call('HGET', LOCKS, WAITER .. id)
        waiters[id] = packed and cmsgpack.unpack(packed) or false
    end
    return waiters[id]
end

local function channel_of(id)
    return LOCKS .. ':' .. id
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

local function unreserve(name, id)
    local lock = lock_of(name)
    for index, one in ipairs(lock.reserved) do
        if one[TAKEN_BY] == id then
            table.remove(lock.reserved, index)
            lock.changed = true
            return
        end
    end
end

local function forget(waiter)
    waiters[waiter.id] = false
    redis.call('HDEL', LOCKS, WAITER .. waiter.id)
end

-- Leave nothing of a request that waits.
local function withdraw(waiter)
    if waiter.queued then
        redis.call('ZREM', QUEUES, waiter.queued)
        freer[#freer + 1] = place_of(waiter)
    end
    for index = 1, waiter.place do
        unreserve(waiter.keys[index], waiter.id)
        freer[#freer + 1] = waiter.keys[index]
    end
    forget(waiter)
end

-- Queues

local function places_of(name, most)
    return redis.call('ZRANGEBYLEX', QUEUES, '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', 0, most)
end

local function head_of(name)
    return places_of(name, 1)[1]
end

local function id_at(name, place)
    return string.sub(place, #name + 19)
end

-- Tell whether a request may have a key at once: nobody who waits for a key could go before one who holds it.
local function passes(name, request)
    return fits(name, request) and (lock_of(name).queued == 0 or holder_of(name, request.owner) ~= nil)
end

local function queue(waiter, name)
    local rank = holder_of(name, waiter.owner) and '0' or '1'
    waiter.queued = string.format('%s\0%s%016.0f%s', name, rank, waiter.ticket, waiter.id)
    redis.call('ZADD', QUEUES, 0, waiter.queued)
    lock_of(name).queued, lock_of(name).changed = 1, true
end

local function reserve(name, waiter)
    local lock = lock_of(name)
    lock.reserved[#lock.reserved + 1] = {waiter.owner, 0, now, waiter.ends, waiter.shared, waiter.id}
    lock.changed = true
    waiter.place = waiter.place + 1
end

local function grant(waiter)
    for _, name in ipairs(waiter.keys) do
        unreserve(name, waiter.id)
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

-- Let one who is at the head of a queue go on, and tell whether the next one may be there now.
local function serve_head(name, head)
    local waiter = waiter_of(id_at(name, head))
    if not waiter then
        redis.call('ZREM', QUEUES, head)
    elseif is_gone(waiter) then
        withdraw(waiter)
    elseif fits(name, waiter) then
        redis.call('ZREM', QUEUES, head)
        reserve(name, waiter)
        advance(waiter)
    else
        return false
    end
    served = served + 1
    return true
end

-- Tell the first in a queue who hears it to ask.
local function call_on(name)
    for _, place in ipairs(places_of(name, MOST_CALLED)) do
        if redis.call('PUBLISH', channel_of(id_at(name, place)), '') > 0 then
            return
        end
    end
end

-- Let those at the head of a queue go on. Where they are too many for one script, the next one is told to ask.
local function serve(name)
    local lock = lock_of(name)
    while lock.queued == 1 do
        local head = head_of(name)
        if not head then
            lock.queued, lock.changed = 0, true
        elseif served == MOST_SERVED then
            return call_on(name)
        elseif not serve_head(name, head) then
            return
        end
    end
end

-- Beginning and end of every script

local function sweep_waiter(id, packed)
    local waiter = cmsgpack.unpack(packed)
    if waiter.ends < now then
        waiters[id] = waiter
        if waiter.queued then
            withdraw(waiter)
        else
            forget(waiter)
        end
    end
end

-- Find some of what has run out, wherever it is, every now and then: so that it never becomes more than what is in use.
local function sweep()
    if now % SWEEP_EVERY ~= 0 then
        return
    end
    local sample = redis.call('HRANDFIELD', LOCKS, SWEPT, 'WITHVALUES')
    for index = 1, #sample, 2 do
        local field = sample[index]
        if string.sub(field, 1, 1) == WAITER then
            sweep_waiter(string.sub(field, 2), sample[index + 1])
        elseif not locks[field] then
            note_lock(field, sample[index + 1])
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

-- Return until when a lock has to be kept.
local function end_of(lock)
    local last = now
    for _, list in ipairs({lock.holders, lock.reserved}) do
        for _, one in ipairs(list) do
            last = math.max(last, one[EXPIRES])
        end
    end
    return last
end

-- Keep what has changed of locks, drop those that have become nobody's, and return until when the others have to be kept.
local function save_locks()
    local kept, idle, last = {}, {}, 0
    for name, lock in pairs(locks) do
        if lock.changed and #lock.holders + #lock.reserved + lock.queued == 0 then
            idle[#idle + 1] = name
        elseif lock.changed then
            kept[#kept + 1] = name
            kept[#kept + 1] = cmsgpack.pack({lock.holders, lock.reserved, lock.queued})
            last = math.max(last, end_of(lock))
        end
    end
    write('HDEL', LOCKS, idle)
    write('HSET', LOCKS, kept)
    return last
end

local function save_waiters()
    local last = 0
    for id, waiter in pairs(waiters) do
        if waiter and waiter.changed then
            redis.call('HSET', LOCKS, WAITER .. id, cmsgpack.pack(waiter))
            last = math.max(last, waiter.ends)
        end
    end
    return last
end

-- Let others have what became free, and keep what has changed.
local function finish()
    settle()
    local last, last_waiter = save_locks(), save_waiters()
    if last + last_waiter > 0 then
        last_until(math.max(last, last_waiter), LOCKS)
        last_until(last, OWNERS)
        last_until(last_waiter, QUEUES)
    end
end
