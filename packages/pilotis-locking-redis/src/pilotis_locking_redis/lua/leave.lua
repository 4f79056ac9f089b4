-- Give up a request: one whose wait is over, or one whose caller was cancelled or does not know what became of it.
-- KEYS[1..4]   as above
-- ARGV[1]      the id of the request
-- ARGV[2]      its owner
-- ARGV[3]      1 to give back what it took, too, even if it arrives only later; 0 to keep what came in the last moment
-- ARGV[4]      its ttl (µs), which begins anew where it keeps what came
-- ARGV[5..]    its keys
-- Result:      the token of what came in the last moment and is kept, else false
local REMEMBERED = 60000000

local id, owner, is_undone, ttl = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local names = {}
for index = 5, #ARGV do
    names[index - 4] = ARGV[index]
end

local function keep(waiter)
    for _, name in ipairs(names) do
        if not held_since(name, owner, waiter.token) then
            return false
        end
    end
    return hold_all({id = id, owner = owner, keys = names, ttl = ttl, shared = waiter.shared})
end

-- Have the request come to nothing, should it be on its way still.
local function bar()
    waiters[id] = {id = id, ends = now + REMEMBERED, is_withdrawn = true, changed = true}
end

local waiter = waiter_of(id)
local token = false
if waiter and not waiter.token then
    withdraw(waiter)
elseif waiter then
    forget(waiter)
    token = not is_undone and keep(waiter)
end
if not token then
    give_back(names, owner, id)
end
if is_undone then
    bar()
end
finish()
return token
