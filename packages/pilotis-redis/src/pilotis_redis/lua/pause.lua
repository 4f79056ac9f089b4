-- Have lanes hand out nothing, or hand out again.
-- KEYS[1..3]  workers, paused, news
-- KEYS[4..]   the bells to ring: reads that wait now must hand out nothing more
-- ARGV[1]     1 to pause, 0 to resume
-- ARGV[2..]   the lanes
-- Result:     nothing.
need_no_room(KEYS[1])
for index = 2, #ARGV do
    redis.call(ARGV[1] == '1' and 'SADD' or 'SREM', KEYS[2], ARGV[index])
    for bell = 4, #KEYS do
        redis.call('XADD', KEYS[bell], 'NOMKSTREAM', '*', 'w', ARGV[index])
    end
    tell(KEYS[3], ARGV[index])
end
