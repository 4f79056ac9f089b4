-- Have an entry last for some time from now, or for good. A claim is none: whoever made it prolongs it.
-- KEYS[1]  the key
-- ARGV[1]  how a claim begins
-- ARGV[2]  how long the entry lasts, in milliseconds; none keeps it for good
-- Result:  1 if there is such an entry, else 0.
-- PCALL, as GETRANGE fails where there is no text under the key.
local first = redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1)
if first == ARGV[1] then
    return 0
end
if ARGV[2] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])
