-- Leases that have run out, the longest ago first.
-- ARGV: most of them. Answers a list of {id, fence, milliseconds overdue, milliseconds that the lease was given for}.
local now = millis()
local overdue = {}
for _, id in ipairs(call('ZRANGEBYSCORE', key('leases'), '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
    local f = call('HMGET', key('b', id), 'fence', 'until', 'len')
    if f[2] then
        overdue[#overdue + 1] = {id, f[1], int(now - tonumber(f[2])), f[3]}
    else
        call('ZREM', key('leases'), id)
    end
end
return overdue
