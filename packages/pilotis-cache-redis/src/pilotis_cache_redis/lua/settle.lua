-- Replace a claim that still stands by what was computed, or remove it; wake who waits for it in either case.
-- KEYS[1]  the key
-- ARGV[1]  the mark of who computed
-- ARGV[2]  the channel on which others wait
-- ARGV[3]  the value; none removes the claim; the mark itself has it last on, and wakes nobody
-- ARGV[4]  how long the value lasts, in milliseconds; none keeps it for good
-- Result:  1 if the claim still stood, else 0, and nothing was changed.
local is_ours = redis.call('MGET', KEYS[1])[1] == ARGV[1]
if is_ours and ARGV[4] then
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
elseif is_ours and ARGV[3] then
    redis.call('SET', KEYS[1], ARGV[3])
elseif is_ours then
    redis.call('UNLINK', KEYS[1])
end
if ARGV[3] ~= ARGV[1] then
    redis.call('PUBLISH', ARGV[2], '')
end
return is_ours and 1 or 0
