-- Takes a named lock, or prolongs it for its holder.
-- ARGV: lock, holder, milliseconds. Answers 1 when the holder has it.
local name = key('lock', ARGV[1])
local holder = call('GET', name)
if holder and holder ~= ARGV[2] then return 0 end
-- Redis refuses an expiry of zero: such a lock is over at once.
if tonumber(ARGV[3]) > 0 then call('SET', name, ARGV[2], 'PX', ARGV[3]) else call('DEL', name) end
return 1
