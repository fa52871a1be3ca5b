-- One step of a list, newest first, along one index.
-- ARGV: the index, '+' or '(' and the id to begin below, most builds, most ids to look at, state to filter by ('' for none).
-- Answers {id to go on below or '', builds}.
local name, from, most, chunk, state = P .. ':' .. ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local ids = call('ZREVRANGEBYLEX', name, from, '-', 'LIMIT', 0, chunk)
local below, builds = #ids == chunk and ids[#ids] or '', {}
for i, id in ipairs(ids) do
    if state == '' or call('HGET', key('b', id), 'state') == state then builds[#builds + 1] = stored(id) end
    if #builds == most then
        if i < #ids then below = id end
        break
    end
end
return {below, builds}
