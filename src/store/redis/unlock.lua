-- Gives a lock back if this holder has it.
-- ARGV: lock, holder.
local name = key('lock', ARGV[1])
if call('GET', name) == ARGV[2] then
    call('DEL', name)
    wake('l')
end
