-- Commits a changed record if the build is still the one that the change was computed from, with all that follows from
-- it: its state event, queue, lease, indexes, credentials.
-- ARGV: id, token of this call, revision, fence and leased ('0'/'1') that were seen, place ('stay', 'requeue', 'end'),
--       only-overdue ('1': the lease must have run out), new state, cancel requested ('0'/'1'), record, event.
-- Answers {'done', revision, seq} | {'conflict'} | {'gone'}.
local id, token, place = ARGV[1], ARGV[2], ARGV[6]
local first = remembered(token)
if first then
    local rev, seq = string.match(first, '^(%d+) (%d+)$')
    return {'done', rev, seq}
end
local b = key('b', id)
local f = call('HMGET', b, 'rev', 'fence', 'until', 'seq', 'state', 'owner', 'prio', 'ord')
if not f[1] then return {'gone'} end
if f[1] ~= ARGV[3] or f[2] ~= ARGV[4] or (f[3] and '1' or '0') ~= ARGV[5] then return {'conflict'} end
local now = millis()
if ARGV[7] == '1' and not (f[3] and tonumber(f[3]) <= now) then return {'conflict'} end

local before, after, owner = f[5], ARGV[8], f[6]
local rev, seq = tonumber(f[1]) + 1, tonumber(f[4]) + 1
call('HSET', b, 'rec', ARGV[10], 'state', after, 'rev', int(rev), 'seq', int(seq), 'cancel', ARGV[9])
append(id, seq, now, ARGV[11])
if before ~= after then
    index('remove', id, owner, before)
    index('add', id, owner, after)
end
if place == 'requeue' then
    end_lease(id, owner)
    enqueue(id, owner, f[7], f[8], true)
    wake('q')
elseif place == 'end' then
    end_lease(id, owner)
    dequeue(id, owner)
    call('DEL', key('x', id))
    call('ZADD', key('hot'), now, id)
    -- An owner without webhooks costs this look.
    if call('EXISTS', key('oo', 'webhook', owner)) == 1 then
        call('ZADD', key('ended'), now, id)
        wake('h')
    end
end
remember(token, int(rev) .. ' ' .. int(seq))
wake('b ' .. id)
return {'done', int(rev), int(seq)}
