-- How many builds are claimed before this one: plays the round of turns. In each round every owner with builds left gets one,
-- in the order of their last turns; so another owner takes as many as this build's place, and one more when first in the round.
-- ARGV: id. Answers the number, nothing when the build is not queued.
local id = ARGV[1]
local owner = call('HGET', key('b', id), 'owner')
if not owner then return false end
local place = call('ZRANK', key('q', owner), id)
if not place then return false end
local before, turn_passed = place, 1
for _, other in ipairs(call('ZRANGE', key('turns'), 0, -1)) do
    if other == owner then
        turn_passed = 0
    else
        before = before + math.min(call('ZCARD', key('q', other)), place + turn_passed)
    end
end
return before
