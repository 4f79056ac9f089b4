-- Read dead letters, until that is enough for once.
-- KEYS[1..11]  the lane
-- ARGV[1]      how many bytes are enough
-- ARGV[2..]    ids
-- Result:      [how many ids were looked at, [[head, body, cause, error, traceback, worker, time of death (ms)] for each that is there]].
local enough = tonumber(ARGV[1])
local found, seen = {}, 0
for index = 2, #ARGV do
    local letter = redis.call('HGET', part(1, LETTERS), ARGV[index])
    seen = seen + 1
    if letter then
        found[#found + 1] = {cmsgpack.unpack(letter)}
        enough = enough - #letter
        if enough <= 0 then
            break
        end
    end
end
return {seen, found}
