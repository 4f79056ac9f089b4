-- Remove dead letters for good.
-- KEYS[1..11]  the lane
-- ARGV[1..]    ids
-- Result:      how many there were.
redis.call('HDEL', part(1, LETTERS), unpack(ARGV))
return redis.call('ZREM', part(1, DEAD), unpack(ARGV))
