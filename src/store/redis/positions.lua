-- How many builds are claimed before each of these.
-- ARGV: ids. Answers a list of numbers, -1 for a build that is not queued.
local positions = {}
for i, id in ipairs(ARGV) do positions[i] = place(id, call('HGET', key('b', id), 'owner')) end
return positions
