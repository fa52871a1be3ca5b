-- Workers seen within the last ARGV[1] milliseconds: a list of {milliseconds when seen, info}.
local seen = call('ZRANGEBYSCORE', key('workers'), int(millis() - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
local workers = {}
for i = 1, #seen, 2 do
    local info = call('GET', key('w', seen[i]))
    if info then workers[#workers + 1] = {seen[i + 1], info} end
end
return workers
