-- Take keys, all or none; or wait for them, or look whether they have come while waiting.
-- KEYS[1..4]   as above
-- ARGV[1]      the id of the request
-- ARGV[2]      its owner
-- ARGV[3]      its ttl (µs)
-- ARGV[4]      1 if it shares, else 0
-- ARGV[5]      how many may share, 0 for any number
-- ARGV[6]      for how long it can wait (µs); -1 for a request that does not
-- ARGV[7]      its ticket, from an earlier answer; 0 for none
-- ARGV[8..]    the keys, sorted
-- Result:      the token where they are held now; false where they are not, and it does not wait;
--              else [after how long a lease in its way may have run out (µs), its ticket]
local LONGEST_DELAY = 1000000
local MOST_LOOKED_AT = 100

local id, wait = ARGV[1], tonumber(ARGV[6])

local function requested()
    local request = {
        id = id, owner = ARGV[2], ttl = tonumber(ARGV[3]), shared = tonumber(ARGV[4]), permits = tonumber(ARGV[5]), keys = {},
    }
    for index = 8, #ARGV do
        request.keys[index - 7] = ARGV[index]
    end
    return request
end

local function can_have_all(request)
    for _, name in ipairs(request.keys) do
        if not passes(name, request) then
            return false
        end
    end
    return true
end

local function is_whole(waiter)
    for _, name in ipairs(waiter.keys) do
        if not held_since(name, waiter.owner, waiter.token) then
            return false
        end
    end
    return true
end

-- Note the keys that stand in the way: the one that is waited for, and those that lack whoever has it reserved. They only ever go up in order.
local function note_way(name, way)
    if way[name] then
        return
    end
    way[name] = true
    way[#way + 1] = name
    local reserved = lock_of(name).reserved
    for index = 1, math.min(#reserved, MOST_LOOKED_AT) do
        local other = waiter_of(reserved[index][TAKEN_BY])
        if other and other.id ~= id then
            note_way(place_of(other), way)
        end
    end
end

local function way_of(waiter)
    local way = {}
    note_way(place_of(waiter), way)
    return way
end

local function withdraw_gone(name)
    local reserved = lock_of(name).reserved
    for index = math.min(#reserved, MOST_LOOKED_AT), 1, -1 do
        local taken_by = reserved[index][TAKEN_BY]
        local other = waiter_of(taken_by)
        if other and is_gone(other) then
            withdraw(other)
        elseif not other then
            unreserve(name, taken_by)
        end
    end
end

-- Let a waiter go on, if those in its way have died or run out.
local function look(waiter)
    waiter.listens, waiter.changed = is_heard(id) and 1 or 0, true
    for _, name in ipairs(way_of(waiter)) do
        withdraw_gone(name)
        freer[#freer + 1] = name
    end
    settle()
end

-- Have a request wait from now on, where it stood before if it has a ticket. Whoever cannot be heard of here is not taken for gone.
local function begin(waiter)
    waiter.is_here = true
    waiter.place = 0
    waiter.ticket = tonumber(ARGV[7])
    if waiter.ticket == 0 then
        waiter.ticket = next_number()
    end
    waiter.ends = now + wait + LONGEST_DELAY
    waiters[id] = waiter
    advance(waiter)
    if not waiter.token then
        look(waiter)
    end
end

-- Return when a lease in a waiter's way runs out: the last for who wants the key alone, the first for who shares it.
local function next_chance(waiter)
    local chance
    local pick = waiter.shared == 1 and math.min or math.max
    for _, name in ipairs(way_of(waiter)) do
        for _, holder in ipairs(lock_of(name).holders) do
            if holder[OWNER] ~= waiter.owner then
                chance = chance and pick(chance, holder[EXPIRES]) or holder[EXPIRES]
            end
        end
    end
    return chance or waiter.ends
end

-- Return the token of what was granted meanwhile. Where some of it was lost since, give back the rest: it is as if nothing had come.
local function collect(waiter, request)
    forget(waiter)
    if is_whole(waiter) then
        return hold_all(request)
    end
    give_back(request.keys, request.owner, id)
    settle()
end

-- Return the token, where the keys are held now, and the waiter, where there is one.
local function proceed(waiter, request)
    if waiter and not waiter.token then
        look(waiter)
        return waiter.token, waiter
    end
    local token = waiter and collect(waiter, request)
    if not token and can_have_all(request) then
        token = hold_all(request)
    end
    if token or wait < 0 then
        return token
    end
    begin(request)
    return request.token, request
end

local before = waiter_of(id)
if before and before.is_withdrawn then
    return false
end
sweep()
local request = requested()
fetch(request.keys)
if before then
    before.is_here = true
end
settle()
local token, waiter = proceed(before, request)
local answer = token or false
if waiter and token then
    forget(waiter)
elseif waiter then
    waiter.is_here = nil
    answer = {math.max(0, next_chance(waiter) - now), waiter.ticket}
end
finish()
return answer
