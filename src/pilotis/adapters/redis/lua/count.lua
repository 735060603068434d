-- ARGV[3] is an event that went to the ledger directly: its cost takes the place of its hold, if it has one.
local one = cjson.decode(ARGV[3])
local epoch = standing()
if epoch ~= one.epoch then return {'unseeded', whole(now)} end
-- What was settled is only known for a while: who looked into the ledger too long ago has to look again.
if now - one.asked > ROLL_US / 2 then return {'stale', whole(now)} end
local hold = held(one.id)
if not hold and is_done(one.id) then return {'done', whole(now)} end
spend(one.id, hold, one, one.micro)
mark_done(one.id, whole(now / 1000))
return {'counted', whole(now)}
