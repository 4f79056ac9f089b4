-- Count what was settled in vain.
-- KEYS[1]      workers
-- KEYS[2..12]  the lane
-- ARGV[1]      how many entries
-- Result:      nothing.
need_no_room(KEYS[1])
count_up(2, 'fenced', tonumber(ARGV[1]))
