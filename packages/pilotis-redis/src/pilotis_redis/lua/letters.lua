-- Read dead letters.
-- KEYS[1..11]  the lane
-- ARGV[1..]    ids
-- Result:      for each that is there [id, head, body, cause, error, traceback, worker, time of death (ms)].
local found = {}
for _, id in ipairs(ARGV) do
    local letter = redis.call('HGET', part(1, LETTERS), id)
    if letter then
        found[#found + 1] = {id, cmsgpack.unpack(letter)}
    end
end
return found
