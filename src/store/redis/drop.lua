-- Removes the events of an ended build whose log has been archived.
-- ARGV: id, revision that was seen, record with its mark. Answers 'done', 'conflict' or 'gone'.
local b = key('b', ARGV[1])
local rev = call('HGET', b, 'rev')
if not rev then return 'gone' end
if rev ~= ARGV[2] then return 'conflict' end
call('HSET', b, 'rec', ARGV[3], 'rev', int(tonumber(rev) + 1))
call('UNLINK', key('e', ARGV[1]))
call('ZREM', key('hot'), ARGV[1])
wake('b ' .. ARGV[1])
return 'done'
