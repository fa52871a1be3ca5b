-- Live builds with sealed credentials, by id.
-- ARGV: id to begin above ('' for all), how many. Answers a list of {id, owner, sealed}.
local ids = {}
for _, state in ipairs({'queued', 'building', 'pushing'}) do
    local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
    for _, id in ipairs(call('ZRANGEBYLEX', key('ix', 's', state), from, '+', 'LIMIT', 0, ARGV[2])) do ids[#ids + 1] = id end
end
table.sort(ids)
local found = {}
for i = 1, math.min(#ids, tonumber(ARGV[2])) do
    -- Also those without: their ids tell the caller where to go on.
    found[i] = {ids[i], call('HGET', key('b', ids[i]), 'owner'), call('GET', key('x', ids[i])) or ''}
end
return found
