-- Appends lines to the log of a build in the hands of the worker with this fence; a batch that is known is not written again.
-- ARGV: id, fence, batch, then the lines' events. Answers the number of the newest event, -1 when the lease was lost.
local id, batch = ARGV[1], tonumber(ARGV[3])
local b = key('b', id)
local f = call('HMGET', b, 'fence', 'until', 'seq', 'batch')
if f[1] ~= ARGV[2] or not f[2] then return -1 end
local seq = tonumber(f[3])
if batch <= tonumber(f[4]) then return seq end
local now = millis()
for i = 4, #ARGV do
    seq = seq + 1
    append(id, seq, now, ARGV[i])
end
call('HSET', b, 'seq', int(seq), 'batch', int(batch))
wake('b ' .. id)
return seq
