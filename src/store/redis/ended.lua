-- Builds that have ended and are still to be told of, in the order of their ends.
-- ARGV: most of them. Answers a list of {id, record or ''}.
local ended = {}
for _, id in ipairs(call('ZRANGE', key('ended'), 0, tonumber(ARGV[1]) - 1)) do
    ended[#ended + 1] = {id, call('HGET', key('endr'), id) or call('HGET', key('b', id), 'rec') or ''}
end
return ended
