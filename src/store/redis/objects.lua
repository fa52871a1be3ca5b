-- Writes objects, all or none.
-- ARGV: token of this call, how many, then for each: kind, id, 'any' | 'absent' | revision, 'put' | 'remove', owner,
--       milliseconds to keep it ('' for ever, 'as it is'), body, parent ('' for none), whom to wake ('' nobody).
-- Answers 'done' or 'conflict'.
local token, many = ARGV[1], tonumber(ARGV[2])
if remembered(token) then return 'done' end
local now, writes = millis(), {}
for i = 0, many - 1 do
    local a = 3 + i * 9
    local w = {kind = ARGV[a], id = ARGV[a + 1], expect = ARGV[a + 2], put = ARGV[a + 3] == 'put', owner = ARGV[a + 4],
        keep = ARGV[a + 5], body = ARGV[a + 6], parent = ARGV[a + 7], wake = ARGV[a + 8]}
    w.key = key('o', w.kind, w.id)
    local f = call('HMGET', w.key, 'rev', 'exp', 'owner', 'ord')
    if f[1] and f[2] and tonumber(f[2]) <= now then
        forget_object(w.kind, w.id, f[3])
        f = {false, false, false, false}
    end
    w.rev, w.before, w.ord = f[1], f[3], f[4]
    if w.expect == 'absent' and w.rev or w.expect ~= 'absent' and w.expect ~= 'any' and w.rev ~= w.expect then
        return 'conflict'
    end
    writes[#writes + 1] = w
end
for _, w in ipairs(writes) do
    local member = w.kind .. ' ' .. w.id
    if not w.put then
        if w.rev then forget_object(w.kind, w.id, w.before) end
    else
        local ord = w.ord or call('INCR', key('objects'))
        if w.before and w.before ~= w.owner then call('ZREM', key('oo', w.kind, w.before), w.id) end
        call('HSET', w.key, 'owner', w.owner, 'rev', int((w.rev or 0) + 1), 'ord', ord, 'body', w.body)
        call('ZADD', key('ok', w.kind), ord, w.id)
        call('ZADD', key('oo', w.kind, w.owner), ord, w.id)
        if not w.ord and w.parent ~= '' then
            call('HSET', w.key, 'parent', w.parent)
            call('ZADD', key('op', w.kind, w.parent), ord, w.id)
        end
        if w.keep == 'as it is' then
            -- Its time runs on.
        elseif w.keep == '' then
            call('HDEL', w.key, 'exp')
            call('ZREM', key('oexp'), member)
        else
            local ends = int(now + tonumber(w.keep))
            call('HSET', w.key, 'exp', ends)
            call('ZADD', key('oexp'), ends, member)
        end
    end
end
remember(token, 'done')
local woken = {['']= true}
for _, w in ipairs(writes) do
    if not woken[w.wake] then wake(w.wake) end
    woken[w.wake] = true
end
return 'done'
