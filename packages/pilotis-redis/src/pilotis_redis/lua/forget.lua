-- Remove a lane with everything in it.
-- KEYS[1..4]   version, registry, news, paused
-- KEYS[5..15]  the lane
-- ARGV[1]      the lane's name
-- Result:      1 if there was one, else 0.
for which = 0, LANE_KEYS - 1 do
    redis.call('UNLINK', part(5, which))
end
redis.call('SREM', KEYS[4], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
    return 0
end
redis.call('INCR', KEYS[1])
tell(KEYS[3], 'registry')
return 1
