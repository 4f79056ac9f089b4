-- Tell who is alive.
-- KEYS[1..2]  workers, infos
-- Result:     what each live worker says of itself, as JSON.
local infos = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')) do
    infos[#infos + 1] = redis.call('HGET', KEYS[2], worker) or nil
end
return infos
