-- Find runs by name, state and time of creation, the newest first.
-- KEYS[1]     what all keys begin with
-- ARGV[1]     how many, at most
-- ARGV[2..3]  from when to when they were created (seconds since 1970), -inf and +inf where that does not matter
-- ARGV[4]     if given, their name
-- ARGV[5..]   their states
-- Result:     [[id, head], ...].
local limit, since, till = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local PAGE = 50
local lines = {}

-- Have a line show the newest run of an index that has not been looked at.
local function advance(line)
    line.at = line.at + 2
    if not line.page[line.at] then
        line.page = redis.call('ZREVRANGEBYSCORE', line.index, till, since, 'WITHSCORES', 'LIMIT', line.read, math.min(limit, PAGE))
        line.read = line.read + #line.page / 2
        line.at = 1
    end
    line.place, line.created = line.page[line.at], tonumber(line.page[line.at + 1])
end

local function is_newer(line, other)
    return line.created > other.created or (line.created == other.created and line.place > other.place)
end

for _, name in ipairs(given(ARGV[4]) and {given(ARGV[4])} or redis.call('SMEMBERS', base .. 'names')) do
    for at = 5, #ARGV do
        local line = {index = index(ARGV[at], name), page = {}, at = 1, read = 0}
        advance(line)
        if line.place then
            lines[#lines + 1] = line
        end
    end
end

local found = {}
while #found < limit do
    local newest
    for _, line in ipairs(lines) do
        if line.place and (not newest or is_newer(line, newest)) then
            newest = line
        end
    end
    if not newest then
        break
    end
    local id = string.sub(newest.place, 17)
    found[#found + 1] = {id, head(id)}
    advance(newest)
end
return found
