-- Gives an ended build to another owner.
-- ARGV: id, token of this call, revision that was seen, owner, new owner, record, event. Answers 'done', 'conflict' or 'gone'.
local id, from, to = ARGV[1], ARGV[4], ARGV[5]
if remembered(ARGV[2]) then return 'done' end
local b = key('b', id)
local f = call('HMGET', b, 'rev', 'owner', 'state', 'images', 'seq', 'bytes')
if not f[1] or f[2] ~= from then return 'gone' end
if f[1] ~= ARGV[3] then return 'conflict' end
local seq = tonumber(f[5]) + 1
call('HSET', b, 'rec', ARGV[6], 'owner', to, 'rev', int(tonumber(f[1]) + 1), 'seq', int(seq))
append(id, seq, millis(), ARGV[7])
for _, name in ipairs({'o:%s', 'os:%s:' .. f[3]}) do
    call('ZREM', key('ix', string.format(name, from)), id)
    call('ZADD', key('ix', string.format(name, to)), 0, id)
end
for image in string.gmatch(f[4], '[^\n]+') do
    call('ZREM', key('ix', 'oi', from, image), id)
    call('ZADD', key('ix', 'oi', to, image), 0, id)
end
for owner, sign in pairs({[from] = -1, [to] = 1}) do
    call('HINCRBY', key('tn', owner), 'builds', sign)
    call('HINCRBY', key('tn', owner), 'bytes', sign * tonumber(f[6] or 0))
end
remember(ARGV[2], 'done')
wake('b ' .. id)
return 'done'
