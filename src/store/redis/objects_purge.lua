-- Removes objects whose time is over. ARGV: most. Answers how many.
local ends = call('ZRANGEBYSCORE', key('oexp'), '-inf', int(millis()), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(ends) do
    local kind, id = string.match(member, '^(%S+) (.*)$')
    forget_object(kind, id, call('HGET', key('o', kind, id), 'owner'))
end
return #ends
