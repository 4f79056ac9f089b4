-- End the blocking read of a worker.
-- KEYS[1]  workers
-- KEYS[2]  its bell
-- Result:  the id of the entry, or false where there is no such bell.
need_no_room(KEYS[1])
return redis.call('XADD', KEYS[2], 'NOMKSTREAM', '*', 'w', '')
