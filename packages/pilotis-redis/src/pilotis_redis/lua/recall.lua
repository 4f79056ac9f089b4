-- Tell what a worker holds, for one that lost an answer.
-- KEYS[1]    workers
-- KEYS[2..]  the keys of each lane, eleven by eleven
-- ARGV[1]    the worker
-- Result:    'dead' for a worker that is taken for dead; else for each lane [stream, entry id, head, body, stream, ...]: no more than
--            it had capacity for.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 'dead'
end
local result = {}
for index = 1, (#KEYS - 1) / LANE_KEYS do
    local at = 2 + (index - 1) * LANE_KEYS
    local found = {}
    for _, stream in ipairs({'s', 'h', 'n', 'l'}) do
        local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'STREAMS', part(at, STREAM[stream]), '0')
        for _, entry in ipairs(reply.err and {} or reply[1][2]) do -- it fails where the lane is gone
            if entry[2] then -- else it was removed
                found[#found + 1] = stream
                found[#found + 1] = entry[1]
                found[#found + 1] = entry[2][2]
                found[#found + 1] = entry[2][4] or ''
            end
        end
    end
    result[index] = found
end
return result
