-- Objects of a kind, newest first.
-- ARGV: kind, owner ('' for all), order to begin below ('' for the newest), how many. Answers a list of objects.
local index = ARGV[2] == '' and key('ok', ARGV[1]) or key('oo', ARGV[1], ARGV[2])
local from, most, now = ARGV[3] == '' and '+inf' or '(' .. ARGV[3], tonumber(ARGV[4]), millis()
local objects, skipped = {}, 0
while #objects < most do
    local ids = call('ZREVRANGEBYSCORE', index, from, '-inf', 'LIMIT', skipped, most)
    for _, id in ipairs(ids) do
        local object = live_object(ARGV[1], id, now)
        if object and #objects < most then objects[#objects + 1] = object end
    end
    if #ids < most then break end
    skipped = skipped + #ids
end
return objects
