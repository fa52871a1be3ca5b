-- Replaces sealed credentials that are still the ones that were read.
-- ARGV: id, old, new. Answers 1 when they are the new ones now.
local x = key('x', ARGV[1])
local now = call('GET', x)
if now == ARGV[2] then
    call('SET', x, ARGV[3])
    return 1
end
return now == ARGV[3] and 1 or 0
