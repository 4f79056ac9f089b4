-- Have workers be gone. With its bell each loses its read that waits, and cannot begin another one: nothing reaches it after this.
-- KEYS[1..3]  workers, infos, news
-- KEYS[4..]   their bells
-- ARGV[1]     1 if only those whose time is over, else 0
-- ARGV[2]     1 if others are to look for what they hold, else 0
-- ARGV[3..]   the workers
-- Result:     what those said of themselves that are gone now.
local now = now_ms()
local infos = {}
need_no_room(KEYS[1])
for index = 3, #ARGV do
    local worker = ARGV[index]
    local limit = redis.call('ZSCORE', KEYS[1], worker)
    if limit and (ARGV[1] == '0' or tonumber(limit) <= now) then
        infos[#infos + 1] = redis.call('HGET', KEYS[2], worker) or worker
        redis.call('ZREM', KEYS[1], worker)
        redis.call('HDEL', KEYS[2], worker)
        redis.call('UNLINK', KEYS[index + 1])
    end
end
if #infos > 0 and ARGV[2] == '1' then
    tell(KEYS[3], 'dead')
end
return infos
