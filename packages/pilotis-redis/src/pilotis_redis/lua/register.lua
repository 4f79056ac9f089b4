-- Have a worker be alive, or note what it says of itself now.
-- KEYS[1..4]  workers, infos, news, the worker's bell
-- ARGV[1]     the worker
-- ARGV[2]     what it says of itself, as JSON
-- ARGV[3]     how long it is taken for alive, in milliseconds; 0 for one that is known
-- Result:     the id of the last news; false for a known worker that is taken for dead: nothing happened.
local lives = tonumber(ARGV[3])
if lives == 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return false
end
need_no_room(KEYS[1])
if lives > 0 then
    redis.call('ZADD', KEYS[1], now_ms() + lives, ARGV[1])
    keep_bell(KEYS[4], lives)
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return last and last[1] or '0-0'
