-- The ledger's sums take the place of the counters, and requests are admitted again. ARGV[3] is the process, ARGV[4] the epoch,
-- ARGV[5] the sums: scope, span, micro-euros; ARGV[6] how often processes had said, before these were made, what they brought there.
if call('GET', prefix .. 'leader') ~= ARGV[3] then return 0 end
if (standing()) then return 0 end
if (call('HGET', meter, 'joins') or '0') ~= ARGV[6] then return 0 end

-- Holds that no living process has said again: those which had begun go to the ledger first.
local left = call('HGETALL', prefix .. 'unclaimed')
for i = 1, #left, 2 do
  local hold = cmsgpack.unpack(left[i + 1])
  if hold.begun then
    if not hold.lost then
      lose(left[i], hold)
      call('HINCRBY', meter, 'lost', 1)
    end
    give_up(left[i])
  end
  land(hold.flight, left[i])
end
call('DEL', prefix .. 'unclaimed')
call('ZREMRANGEBYSCORE', prefix .. 'lost', '-inf', whole(now - 86400 * 1000000))
if call('XLEN', prefix .. 'events') > 0 then return 0 end

local gone = {'round', 'round_run'}
for _, field in ipairs(call('HKEYS', meter)) do
  local kind = string.sub(field, 1, 2)
  if kind == 's|' or kind == 'h|' then gone[#gone + 1] = field end
end
for i = 1, #gone, 1000 do call('HDEL', meter, unpack(gone, i, math.min(i + 999, #gone))) end
for _, sum in ipairs(cjson.decode(ARGV[5])) do
  if sum[3] ~= 0 then call('HSET', meter, 's|' .. sum[1] .. '|' .. sum[2], sum[3]) end
end
local holds = call('HVALS', prefix .. 'holds')
for _, packed in ipairs(holds) do
  local hold = cmsgpack.unpack(packed)
  add(hold, hold.micro, 0)
end
call('HSET', meter, 'run', run, 'epoch', ARGV[4], 'seeded', whole(now))
return 1
