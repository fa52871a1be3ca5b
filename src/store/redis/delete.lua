-- Takes a build out with all that belongs to it, and leaves the removal of its image to its node.
-- ARGV: id, token of this call, revision that was seen, node ('' for none), removal. Answers 'done', 'conflict' or 'gone'.
local id, token, node = ARGV[1], ARGV[2], ARGV[4]
if remembered(token) then return 'done' end
local f = call('HMGET', key('b', id), 'rev', 'owner', 'state', 'images', 'bytes')
if not f[1] then return 'gone' end
if f[1] ~= ARGV[3] then return 'conflict' end
local owner = f[2]
dequeue(id, owner)
end_lease(id, owner)
call('HINCRBY', key('tn', owner), 'builds', -1)
call('HINCRBY', key('tn', owner), 'bytes', -tonumber(f[5] or 0))
call('ZREM', key('hot'), id)
index('remove', id, owner, f[3])
call('ZREM', key('ix', 'all'), id)
call('ZREM', key('ix', 'o', owner), id)
for image in string.gmatch(f[4], '[^\n]+') do
    call('ZREM', key('ix', 'i', image), id)
    call('ZREM', key('ix', 'oi', owner, image), id)
end
-- What is to be told of its end stays.
if call('ZSCORE', key('ended'), id) then call('HSET', key('endr'), id, call('HGET', key('b', id), 'rec')) end
call('UNLINK', key('b', id), key('e', id), key('d', id), key('x', id))
if node ~= '' then
    call('HSET', key('rm', node), id, ARGV[5])
    wake('r')
end
remember(token, 'done')
wake('b ' .. id)
return 'done'
