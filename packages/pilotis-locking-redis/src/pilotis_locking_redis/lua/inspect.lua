-- Tell who holds a key.
-- KEYS[1..4]   as above
-- ARGV[1]      the key
-- Result:      its state, or false where nobody holds it
local name = ARGV[1]
lock_of(name)
settle()
local state = state_of(name, lock_of(name).holders)
finish()
return state
