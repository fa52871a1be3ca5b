-- A build as it is, with its record only if that is not the one that the caller knows.
-- ARGV: id, the revision that the caller knows ('' for none).
-- Answers {record or '', revision, last event, fence, '1' when leased, order of acceptance, place in the queue or -1}, nothing when there is no such build.
local b = key('b', ARGV[1])
local f = call('HMGET', b, 'rev', 'seq', 'fence', 'until', 'owner', 'state', 'ord')
if not f[1] then return false end
local record = f[1] == ARGV[2] and '' or call('HGET', b, 'rec')
local position = f[6] == 'queued' and place(ARGV[1], f[5]) or -1
return {record, f[1], f[2], f[3], f[4] and '1' or '0', f[7], position}
