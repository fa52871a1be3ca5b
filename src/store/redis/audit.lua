-- Appends to the audit if nobody else has meanwhile.
-- ARGV: token of this call, number of the last entry that was seen, head, entries. Answers 1, or 0.
if remembered(ARGV[1]) then return 1 end
if call('LLEN', key('audit')) ~= tonumber(ARGV[2]) then return 0 end
for i = 4, #ARGV do call('RPUSH', key('audit'), ARGV[i]) end
call('SET', key('audit_head'), ARGV[3])
remember(ARGV[1], '1')
return 1
