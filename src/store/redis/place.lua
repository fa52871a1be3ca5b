-- How many builds are claimed before this one: plays the round of turns. In each round every owner with builds left gets one,
-- in the order of their last turns; so another owner takes as many as this build's place, and one more when first in the round.
-- An owner takes no more than it may have in hands. -1 when it is not queued.
local owners, waiting
local function waits(owner)
    if not waiting[owner] then
        local f = call('HMGET', key('tn', owner), 'running', 'cap')
        local room = f[2] and math.max(tonumber(f[2]) - tonumber(f[1] or 0), 0)
        waiting[owner] = math.min(call('ZCARD', key('q', owner)), room or math.huge)
    end
    return waiting[owner]
end

local function place(id, owner)
    local own = owner and call('ZRANK', key('q', owner), id)
    if not own then return -1 end
    if not owners then owners, waiting = call('ZRANGE', key('turns'), 0, -1), {} end
    local before, turn_passed = own, 1
    for _, other in ipairs(owners) do
        if other == owner then
            turn_passed = 0
        else
            before = before + math.min(waits(other), own + turn_passed)
        end
    end
    return before
end
