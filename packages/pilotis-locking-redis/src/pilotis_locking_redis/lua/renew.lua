-- Have grants last from now on, each for its own ttl, where they are held whole. Nothing ends sooner by that.
-- KEYS[1..4]   as above
-- ARGV[1]      the grants, as a MessagePack array of [owner, token, ttl (µs), keys]
-- Result:      for each of them 1 if it is held, else 0
local grants, all, result = cmsgpack.unpack(ARGV[1]), {}, {}

local function held_by(owner, token, names)
    local held = {}
    for index, name in ipairs(names) do
        held[index] = held_since(name, owner, token)
        if not held[index] then
            return nil
        end
    end
    return held
end

for _, grant in ipairs(grants) do
    for _, name in ipairs(grant[4]) do
        all[#all + 1] = name
    end
end
fetch(all)
for index, grant in ipairs(grants) do
    local owner, token, ttl, names = unpack(grant)
    local held = held_by(owner, token, names)
    result[index] = held and 1 or 0
    for at, holder in ipairs(held or {}) do
        holder[EXPIRES] = math.max(holder[EXPIRES], now + ttl)
        lock_of(names[at]).changed = true
    end
end
finish()
return result
