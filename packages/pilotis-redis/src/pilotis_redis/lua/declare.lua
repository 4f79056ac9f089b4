-- Make a lane, or note what changed about it.
-- KEYS[1..3]   version, registry, news
-- KEYS[4..14]  the lane
-- ARGV[1]      the lane's name
-- ARGV[2]      what is to be known of it, as JSON
-- ARGV[3]      a number from which versions are counted where there is none
-- Result:      [what was known before, or false; the version].
need_no_room(KEYS[2])
for which = SUSPECT, LOW do
    local made = redis.pcall('XGROUP', 'CREATE', part(4, which), GROUP, '0', 'MKSTREAM')
    if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
        return made
    end
end
local before = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], ARGV[3], 'NX')
if before ~= ARGV[2] then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
    redis.call('INCR', KEYS[1])
    tell(KEYS[3], 'registry')
end
return {before, redis.call('GET', KEYS[1])}
