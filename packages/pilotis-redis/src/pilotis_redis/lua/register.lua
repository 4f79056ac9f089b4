-- Have a worker be alive, or say what it is now.
-- KEYS[1..2]  workers, infos
-- ARGV[1]     the worker
-- ARGV[2]     what it says of itself, as JSON
-- ARGV[3]     how long it is taken for alive, in milliseconds
-- Result:     nothing.
redis.call('ZADD', KEYS[1], now_ms() + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
