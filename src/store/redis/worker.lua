-- A worker's sign of life; expires by itself.
-- ARGV: worker, info, seconds that it is kept. Old names leave the list on the way.
local now = millis()
call('ZREMRANGEBYSCORE', key('workers'), '-inf', int(now - tonumber(ARGV[3]) * 1000))
call('ZADD', key('workers'), int(now), ARGV[1])
call('SET', key('w', ARGV[1]), ARGV[2], 'EX', ARGV[3])
