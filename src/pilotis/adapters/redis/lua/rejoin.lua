-- A process says which holds it has: ARGV[3] is the list, ARGV[4] for how many microseconds others may still do the same. ARGV[6..]
-- are holds whose costs it brought to the ledger: the sums to come have them, and sums that were made before will not do.
local epoch = standing()
local wait = 0

-- It expired before the restart, and its event is on its way to the ledger.
local function is_given_up(id)
  local packed = call('HGET', prefix .. 'unclaimed', id)
  local lost = packed and cmsgpack.unpack(packed).lost
  if packed and not lost then call('HDEL', prefix .. 'unclaimed', id) end
  return lost
end

if not epoch then
  local round = call('HMGET', meter, 'round', 'round_run')
  if round[2] ~= run then
    -- The first one after a restart: whatever is held has to be said again.
    local left = call('HGETALL', prefix .. 'holds')
    for i = 1, #left, 2 do call('HSET', prefix .. 'unclaimed', left[i], left[i + 1]) end
    call('DEL', prefix .. 'holds', prefix .. 'expiring')
    call('HSET', meter, 'round', whole(now), 'round_run', run)
    round[1] = now
  end
  wait = math.max(0, tonumber(round[1]) + ARGV[4] - now)
end
for _, hold in ipairs(cjson.decode(ARGV[3])) do
  local id = hold.id
  local known = held(id)
  if known then
    if hold.begun and not known.begun then
      known.begun = true
      keep_hold(id, known)
    end
  elseif hold.expires <= now then
    -- Redis may have lost it as it ended, or after that: the ledger decides.
    give_up(id)
  elseif not is_done(id) and not is_lost(id) and not is_given_up(id) then
    local expires = hold.expires
    hold.id, hold.expires = nil, nil
    keep_hold(id, hold)
    call('ZADD', prefix .. 'expiring', whole(expires), id)
    if epoch then add(hold, hold.micro, 0) end
    if hold.flight ~= '' then call('SET', prefix .. hold.flight, id, 'NX', 'PX', ARGV[5]) end
  end
end
if not epoch and #ARGV > 5 then
  for i = 6, #ARGV do
    local hold = held(ARGV[i])
    if hold then drop_hold(ARGV[i], hold) end
    call('HDEL', prefix .. 'unclaimed', ARGV[i])
  end
  call('HINCRBY', meter, 'joins', 1)
end
return {'joined', whole(now), whole(wait), epoch, call('HGET', meter, 'joins') or '0'}
