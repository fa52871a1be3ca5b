-- Accepts a build: record, queue, Dockerfile, credentials, indexes and first event. A known id changes nothing.
-- ARGV: id, owner, state, priority, record, event, dockerfile, sealed ('' for none), its bytes, its owner's limits of
--       queued builds, stored bytes and builds in hands ('' for none), then every image to list it by.
-- Answers the build as look.lua does, without its record when it is new.
local id, owner, state, prio = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if call('EXISTS', key('b', id)) == 1 then
    local known = stored(id)
    known[7] = place(id, owner)
    return known
end

local waiting, stored_bytes = call('ZCARD', key('q', owner)), tonumber(call('HGET', key('tn', owner), 'bytes') or 0)
local function over(quota, limit, used, more)
    if limit ~= '' and used + more > tonumber(limit) then
        return redis.error_reply('OVERQUOTA ' .. quota .. ' ' .. limit .. ' ' .. int(used))
    end
end
local refused = over('builds_queued', ARGV[10], waiting, 1) or over('stored_bytes', ARGV[11], stored_bytes, tonumber(ARGV[9]))
if refused then return refused end
if ARGV[12] ~= '' then
    call('HSET', key('tn', owner), 'cap', ARGV[12])
else
    call('HDEL', key('tn', owner), 'cap')
end

local ord = call('INCR', key('order'))
local images = {}
for i = 13, #ARGV do images[#images + 1] = ARGV[i] end
call('HSET', key('b', id), 'rec', ARGV[5], 'owner', owner, 'state', state, 'rev', 1, 'seq', 1, 'fence', 0, 'batch', 0,
    'prio', prio, 'ord', ord, 'bytes', ARGV[9], 'images', table.concat(images, '\n'))
call('SET', key('d', id), ARGV[7])
if ARGV[8] ~= '' then call('SET', key('x', id), ARGV[8]) end
call('ZADD', key('ix', 'all'), 0, id)
call('ZADD', key('ix', 'o', owner), 0, id)
index('add', id, owner, state)
for _, image in ipairs(images) do
    call('ZADD', key('ix', 'i', image), 0, id)
    call('ZADD', key('ix', 'oi', owner, image), 0, id)
end
call('HINCRBY', key('tn', owner), 'builds', 1)
call('HINCRBY', key('tn', owner), 'bytes', ARGV[9])
append(id, 1, millis(), ARGV[6])
enqueue(id, owner, prio, ord, false)
wake('n ' .. id)
return {'', 1, 1, 0, '0', ord, place(id, owner)}
