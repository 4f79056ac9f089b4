-- Add ARGV[1] to the number under KEYS[1]. One that is created lasts ARGV[2] milliseconds.
-- The sum is read back as text: a Lua number does not hold 64 bits.
local is_new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('INCRBY', KEYS[1], ARGV[1])
if is_new then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
