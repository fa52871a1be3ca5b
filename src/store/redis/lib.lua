-- Joined in front of every script. KEYS[1] is the prefix of all keys; each script names its own from it, so this is for
-- one Redis (with replicas), not for a Redis Cluster. mod.rs lists the keys. ARGV starts with what the script's head says.
local P = KEYS[1]
local call = redis.call

local function key(...) return P .. ':' .. table.concat({...}, ':') end

-- Milliseconds by the store's clock.
local function millis()
    local t = call('TIME')
    return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function int(n) return string.format('%.0f', n) end

local function wake(topic) call('PUBLISH', key('wake'), topic) end

-- Before all others of the owner: the re-queued; then the higher priority; then the order of acceptance (below 2^46).
local function score(prio, ord, head)
    local band = 10 - prio
    if not head then band = band + 21 end
    return band * 70368744177664 + ord
end

local function enqueue(id, owner, prio, ord, head)
    call('ZADD', key('q', owner), score(tonumber(prio), tonumber(ord), head), id)
    call('INCR', key('queued'))
    if not call('ZSCORE', key('turns'), owner) then
        call('ZADD', key('turns'), call('HGET', key('last'), owner) or 0, owner)
    end
end

-- An owner without queued builds leaves the round; the last turn is remembered in `last`.
local function leave_round_if_done(owner)
    if call('EXISTS', key('q', owner)) == 0 then call('ZREM', key('turns'), owner) end
end

local function dequeue(id, owner)
    if call('ZREM', key('q', owner), id) == 1 then
        call('DECR', key('queued'))
        leave_round_if_done(owner)
        wake('q')
    end
end

local function end_lease(id, owner)
    if call('HDEL', key('b', id), 'until', 'len') > 0 then
        call('HINCRBY', key('tn', owner), 'running', -1)
        if call('HEXISTS', key('tn', owner), 'cap') == 1 then wake('q') end
    end
    call('ZREM', key('leases'), id)
end

-- Record, revision, last event, fence, '1' when leased, order of acceptance: what Rust calls a `Stored`; nil when there is no such build.
local function stored(id)
    local f = call('HMGET', key('b', id), 'rec', 'rev', 'seq', 'fence', 'until', 'ord')
    if not f[1] then return nil end
    return {f[1], f[2], f[3], f[4], f[5] and '1' or '0', f[6]}
end

local function append(id, seq, at, body) call('XADD', key('e', id), int(seq) .. '-0', 't', int(at), 'b', body) end

local function index(command, id, owner, state)
    local function each(name)
        if command == 'add' then call('ZADD', name, 0, id) else call('ZREM', name, id) end
    end
    each(key('ix', 's', state))
    each(key('ix', 'os', owner, state))
end

-- A call that is repeated after its answer was lost finds the first answer here.
local REMEMBERED = 60000
local function remembered(token) return call('GET', key('t', token)) end
local function remember(token, answer) call('SET', key('t', token), answer, 'PX', REMEMBERED) end

local function forget_object(kind, id, owner)
    local parent = call('HGET', key('o', kind, id), 'parent')
    if parent then call('ZREM', key('op', kind, parent), id) end
    call('UNLINK', key('o', kind, id))
    call('ZREM', key('ok', kind), id)
    if owner then call('ZREM', key('oo', kind, owner), id) end
    call('ZREM', key('oexp'), kind .. ' ' .. id)
end

-- {id, owner, order, revision, body}, nil when there is none or its time is over.
local function live_object(kind, id, now)
    local f = call('HMGET', key('o', kind, id), 'owner', 'ord', 'rev', 'body', 'exp')
    if not f[1] or f[5] and tonumber(f[5]) <= now then return nil end
    return {id, f[1], f[2], f[3], f[4]}
end
