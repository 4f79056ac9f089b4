-- What the scripts of lanes share; it stands before each of them.
--
-- A lane is eleven keys in a fixed order: see `LaneKeys` in keys.py. An entry is a head (MessagePack array: id, name, priority, attempts,
-- crashes, member, first) and a body. Times are milliseconds of the server's clock.

local SUSPECT, HIGH, NORMAL, LOW, DUE, ENTRIES, CHAINS, HELD, DEAD, LETTERS, COUNTERS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local LANE_KEYS = 11
local STREAM = {s = SUSPECT, h = HIGH, n = NORMAL, l = LOW}
local PRIORITY, ATTEMPTS, CRASHES, MEMBER, FIRST = 3, 4, 5, 6, 7
local GROUP = 'g'
local BELL_OUTLIVES = 10 -- times a worker's liveness: the bells of the dead do not stay for ever

local function now_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return the key of one part of the lane whose keys begin at KEYS[at].
local function part(at, which)
    return KEYS[at + which]
end

local function next_number(seq)
    return string.format('%016x', redis.call('INCR', seq))
end

-- Put an entry among the delayed. True if it is due before all else of the lane.
local function delay_entry(at, seq, head, body, due)
    local member = next_number(seq)
    redis.call('HSET', part(at, ENTRIES), member, cmsgpack.pack(head, body))
    redis.call('ZADD', part(at, DUE), due, member)
    return redis.call('ZRANGE', part(at, DUE), 0, 0)[1] == member
end

-- Put an entry where it belongs: among the ready ones of `stream`, or among the delayed. True if it is due before all else of the lane.
local function put(at, seq, stream, head, body, due, now)
    if due > now then
        return delay_entry(at, seq, head, body, due)
    end
    redis.call('XADD', part(at, STREAM[stream]), '*', 'h', head, 'b', body)
    return false
end

-- Have an entry, given by its fields, join a chain ("sha1hex:"). True if nothing is before it.
local function enchain(at, seq, fields, chain)
    local before = redis.call('ZRANGEBYLEX', part(at, CHAINS), '[' .. chain, '(' .. chain .. '\255', 'LIMIT', 0, 1)
    fields[MEMBER] = chain .. next_number(seq)
    redis.call('ZADD', part(at, CHAINS), 0, fields[MEMBER])
    return #before == 0
end

-- Take the head of a chain out, and let the next one of its key go on. True if that is due before all else of the lane.
local function advance(at, seq, member, now)
    redis.call('ZREM', part(at, CHAINS), member)
    local key = string.sub(member, 1, 41)
    local following = redis.call('ZRANGEBYLEX', part(at, CHAINS), '[' .. key, '(' .. key .. '\255', 'LIMIT', 0, 1)[1]
    if not following then
        return false
    end
    local held = redis.call('HGET', part(at, HELD), following)
    if not held then
        return false
    end
    redis.call('HDEL', part(at, HELD), following)
    local head, body, due = cmsgpack.unpack(held)
    return put(at, seq, cmsgpack.unpack(head)[PRIORITY], head, body, due, now)
end

-- Have a script go through on a server whose memory is full: Redis refuses none that writes something first which takes no room. What takes
-- entries out must not wait for room. `key` has no ttl.
local function need_no_room(key)
    redis.call('PERSIST', key)
end

-- Count what happened to a lane, unless that is gone.
local function count_up(at, what, number)
    if number > 0 and redis.call('EXISTS', part(at, NORMAL)) == 1 then
        redis.call('HINCRBY', part(at, COUNTERS), what, number)
    end
end

-- Have a worker that lives so long (ms) have a bell. That of one who could not beat for long ran out, though nobody took it away.
local function keep_bell(bell, lives)
    if redis.call('PEXPIRE', bell, lives * BELL_OUTLIVES) == 0 then
        redis.call('XGROUP', 'CREATE', bell, GROUP, '0', 'MKSTREAM')
        redis.call('PEXPIRE', bell, lives * BELL_OUTLIVES)
    end
end

-- Have workers know.
local function tell(news, what)
    redis.call('XADD', news, 'MAXLEN', '~', 1000, '*', 'w', what)
end

-- Return the head and the body of an entry of a stream. One that others wrote, and nobody can read, is given a head that says so.
local function read_entry(entry)
    local head, body = entry[2][2], entry[2][4] or ''
    local is_read, fields = pcall(cmsgpack.unpack, head)
    if is_read and type(fields) == 'table' and #fields >= FIRST and STREAM[fields[PRIORITY]] then
        return head, body
    end
    return cmsgpack.pack({entry[1], '?', 'n', 0, 0, '', 0}), body
end

-- Make a dead letter of an entry.
local function bury(at, head, body, cause, error, traceback, worker, now)
    local id = cmsgpack.unpack(head)[1]
    redis.call('ZADD', part(at, DEAD), now, id)
    redis.call('HSET', part(at, LETTERS), id, cmsgpack.pack(head, body, cause, error, traceback, worker, now))
end
