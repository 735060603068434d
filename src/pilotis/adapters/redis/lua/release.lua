-- ARGV[3] is the id of a hold, ARGV[4] its flight: nothing was consumed.
local id = ARGV[3]
local hold = held(id)
if hold and not hold.lost then drop_hold(id, hold) end
call('HDEL', prefix .. 'unclaimed', id)
land(ARGV[4], id)
return 1
