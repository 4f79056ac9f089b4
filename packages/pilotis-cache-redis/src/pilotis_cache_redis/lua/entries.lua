-- Read entries with the time that they have left.
-- KEYS    the keys
-- Result:  for each, false if it is absent; else its value, and its milliseconds (-1: for good).
-- MGET, not GET, which fails where there is no text under the key.
local entries = {}
for place, key in ipairs(KEYS) do
    local value = redis.call('MGET', key)[1]
    entries[place] = value and {value, redis.call('PTTL', key)}
end
return entries
