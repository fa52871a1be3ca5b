-- Takes the build whose turn it is out of the queue and puts a lease on it; its record is changed by the commit that follows.
-- Between the two it is `queued` with a lease: if the worker dies there, the lease runs out and the build comes back.
-- ARGV: token of this call, lease in milliseconds, the worker's node, for how many milliseconds after its last sign of life a node
--       counts. Answers {milliseconds, id, sealed or false, build}, nothing when none waits.
local token, lease = ARGV[1], tonumber(ARGV[2])
local now = millis()
local function taken(id) return {int(now), id, call('GET', key('x', id)), stored(id)} end

local first = remembered(token)
if first then
    local id, fence = string.match(first, '^(%S+) (%d+)$')
    local f = call('HMGET', key('b', id), 'fence', 'until')
    if f[1] == fence and f[2] then return taken(id) end
end
-- Whether another node is alive that the build is bound to.
local function waits_elsewhere(id)
    local record = call('HGET', key('b', id), 'rec')
    if not record or not string.find(record, '"bound_to":"', 1, true) then return false end
    local parsed, build = pcall(cjson.decode, record)
    local bound = parsed and build.bound_to
    if not bound or bound == ARGV[3] then return false end
    for _, worker in ipairs(call('ZRANGEBYSCORE', key('workers'), int(now - tonumber(ARGV[4])), '+inf')) do
        local info = call('GET', key('w', worker))
        if info and cjson.decode(info).node == bound then return true end
    end
    return false
end

-- The first of an owner's queue that may be begun here.
local function first_of(owner)
    local place = 0
    while true do
        local id = call('ZRANGE', key('q', owner), place, place)[1]
        if not id or not waits_elsewhere(id) then return id end
        place = place + 1
    end
end

local at = 0
while true do
    local owner = call('ZRANGE', key('turns'), at, at)[1]
    -- An owner that has as many in hands as it may is passed over.
    while owner do
        local f = call('HMGET', key('tn', owner), 'running', 'cap')
        if not f[2] or tonumber(f[1] or 0) < tonumber(f[2]) then break end
        at = at + 1
        owner = call('ZRANGE', key('turns'), at, at)[1]
    end
    if not owner then return false end
    local id = first_of(owner)
    if id then
        call('ZREM', key('q', owner), id)
        call('DECR', key('queued'))
        local turn = call('INCR', key('turn'))
        call('HSET', key('last'), owner, turn)
        call('ZADD', key('turns'), turn, owner)
        leave_round_if_done(owner)
        local fence = call('HINCRBY', key('b', id), 'fence', 1)
        local ends = now + lease
        call('HSET', key('b', id), 'until', int(ends), 'len', int(lease), 'batch', 0)
        call('HINCRBY', key('tn', owner), 'running', 1)
        call('ZADD', key('leases'), int(ends), id)
        remember(token, id .. ' ' .. int(fence))
        wake('q')
        return taken(id)
    end
    if call('EXISTS', key('q', owner)) == 1 then at = at + 1 else call('ZREM', key('turns'), owner) end
end
