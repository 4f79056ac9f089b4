-- Create a pending run, unless there is one of its id.
-- KEYS[1]      what all keys begin with
-- ARGV[1..5]   its id, what was made, its workflow's name, its workflow, when it was created (seconds since 1970)
-- ARGV[6..8]   if given: its deadline, its retention (ms), its parent
-- ARGV[9..11]  if given, the schedule whose fire it is; then the due time of that (seconds since 1970), and "skip" or "allow"
-- ARGV[12..]   what its journal begins with: key, record, key, record, ...
-- Result:      1 for a new run, 0 where the fire starts none, else the head of the run that is there.
local id, name, flow, created = ARGV[1], ARGV[3], ARGV[4], ARGV[5]

-- Take a fire. Returns whether it starts a run.
local function use_up(schedule, due, overlap)
    local before = redis.call('HGET', base .. 'schedules', schedule)
    local last_due, last = 0, ''
    if before then
        last_due, last = cmsgpack.unpack(before)
    end
    if last_due >= due then
        return false
    end
    local other = look(last)
    local starts = overlap == 'allow' or not other or ENDED[other.status]
    redis.call('HSET', base .. 'schedules', schedule, cmsgpack.pack(due, starts and id or last))
    return starts
end

if redis.call('EXISTS', key('r', id)) == 1 then
    return head(id)
end
if given(ARGV[9]) and not use_up(given(ARGV[9]), tonumber(ARGV[10]), ARGV[11]) then
    return 0
end
local number = redis.call('INCR', base .. 'seq')
local run = {id = id, status = 'pending', worker = '', name = name, flow = flow, number = number, created = created, crashes = 0}
redis.call('HSET', key('r', id), 'made', ARGV[2], 'status', 'pending', 'epoch', 0, 'worker', '', 'updated', now,
    'name', name, 'flow', flow, 'number', number, 'created', created)
for at, field in pairs({[6] = 'deadline', [7] = 'retention', [8] = 'parent'}) do
    if given(ARGV[at]) then
        redis.call('HSET', key('r', id), field, given(ARGV[at]))
    end
end
write(id, 12, #ARGV)
redis.call('ZADD', index('pending', name), created, place(run))
redis.call('SADD', base .. 'names', name)
tell('run.started', run)
make_ready(run)
return 1
