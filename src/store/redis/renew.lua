-- Prolongs a lease from now, also one that has run out, as long as its fence is the newest and nobody took it away.
-- ARGV: id, fence, lease in milliseconds. Answers 'lost', 'cancel' or 'continue'.
local b = key('b', ARGV[1])
local f = call('HMGET', b, 'fence', 'until', 'cancel')
if f[1] ~= ARGV[2] or not f[2] then return 'lost' end
local ends = millis() + tonumber(ARGV[3])
call('HSET', b, 'until', int(ends), 'len', ARGV[3])
call('ZADD', key('leases'), int(ends), ARGV[1])
return f[3] == '1' and 'cancel' or 'continue'
