-- Take a key away from whoever holds it.
-- KEYS[1..4]   as above
-- ARGV[1]      the key
-- Result:      how many held it
local name = ARGV[1]
local dropped = drop(name, lock_of(name), function() return true end)
finish()
return dropped
