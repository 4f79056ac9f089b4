-- End the waits that are due, and remove the runs whose retention is over.
-- KEYS[1]  what all keys begin with
-- ARGV[1]  how many timers, at most
-- Result:  until the next one is due (ms, -1: there is none).
local function go_on(id)
    local run = look(id)
    if run then
        wake(run)
    end
end

local function end_record(id, record)
    if redis.call('HGET', key('w', id), 's' .. record) == 'waiting' then
        end_wait(id, record, 'due')
        go_on(id)
    end
end

local function remove(id)
    local run = look(id)
    if run and ENDED[run.status] then
        redis.call('ZREM', index(run.status, run.name), place(run))
        redis.call('UNLINK', key('r', id), key('w', id), key('m', id), key('d', id))
    end
end

local function go_off(timer)
    local kind, rest = string.sub(timer, 1, 1), string.sub(timer, 2)
    if kind == 'x' then
        remove(rest)
    elseif kind == 'd' then
        go_on(rest)
    else
        local length, both = string.match(rest, '^(%d+):(.*)$')
        end_record(string.sub(both, 1, length), string.sub(both, length + 1))
    end
end

for _, timer in ipairs(redis.call('ZRANGEBYSCORE', base .. 'tm', '-inf', now, 'LIMIT', 0, ARGV[1])) do
    clear_timer(timer)
    go_off(timer)
end
local following = redis.call('ZRANGE', base .. 'tm', 0, 0, 'WITHSCORES')[2]
return following and math.max(0, following - now) or -1
