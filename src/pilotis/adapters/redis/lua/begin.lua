-- ARGV[3] is the id of a hold: money is about to be spent on it.
local hold = held(ARGV[3])
if hold and not hold.begun then
  hold.begun = true
  keep_hold(ARGV[3], hold)
end
return hold and 1 or 0
