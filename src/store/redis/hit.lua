-- Counts one more in a window of time.
-- ARGV: token of this call, key, milliseconds. Answers {count, milliseconds left}.
local name = key('rate', ARGV[2])
local count = remembered(ARGV[1])
if not count then
    count = call('INCR', name)
    if count == 1 then call('PEXPIRE', name, ARGV[3]) end
    remember(ARGV[1], count)
end
return {tonumber(count), math.max(call('PTTL', name), 0)}
