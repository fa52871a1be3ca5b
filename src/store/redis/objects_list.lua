-- Objects of a kind, newest first.
-- ARGV: kind, owner ('' for all), parent ('' for any), order to begin below ('' for the newest), how many. Answers a list of objects.
local owner = ARGV[2]
local index = owner == '' and key('ok', ARGV[1]) or key('oo', ARGV[1], owner)
if ARGV[3] ~= '' then index = key('op', ARGV[1], ARGV[3]) end
local from, most, now = ARGV[4] == '' and '+inf' or '(' .. ARGV[4], tonumber(ARGV[5]), millis()
local objects, skipped = {}, 0
while #objects < most do
    local ids = call('ZREVRANGEBYSCORE', index, from, '-inf', 'LIMIT', skipped, most)
    for _, id in ipairs(ids) do
        local object = live_object(ARGV[1], id, now)
        if object and (owner == '' or object[2] == owner) and #objects < most then objects[#objects + 1] = object end
    end
    if #ids < most then break end
    skipped = skipped + #ids
end
return objects
