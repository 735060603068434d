-- What all scripts share. KEYS[1] is the meter; the names of the other keys follow from it, all in the slot of its hash tag.
-- ARGV[1] is the run id of the server as its connection learned it, ARGV[2] microseconds that a test adds to the clock.
--
-- meter      hash   run, epoch, seeded: set by seed; without them, or in another run of the server, nobody is admitted
--                   s|SCOPE|SPAN spent, h|SCOPE|SPAN held, in micro-euros; g|SCOPE level of the guardrail
--                   trimmed: the place in the stream up to which events were removed
-- holds      hash   id -> packed record; expiring: sorted set of their ids by when they end
-- unclaimed  hash   holds of before a restart that no process has said again yet; lost: sorted set of those that none did
-- events     stream of settled costs on their way to the ledger
-- done       sorted set of minutes; done:MINUTE the ids that were settled then
-- answer: passages: flight: doc: gone: rate: see cache and admit
local meter = KEYS[1]
local prefix = string.sub(meter, 1, -6)
local run = ARGV[1]
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2] + ARGV[2]

local REAPED = 20
local ROLL_US = 600 * 1000000

local function whole(number)
  return string.format('%.0f', number)
end

-- The epoch of the counters and what was trimmed of the stream; no epoch where they are not to be trusted.
local function standing()
  local found = call('HMGET', meter, 'run', 'epoch', 'trimmed')
  if found[1] ~= run then return false, found[3] end
  return found[2], found[3]
end

local function scopes(of)
  local found = {'env', 'plane:' .. of.plane, 'bu:' .. of.bu}
  if of.key then found[4] = 'key:' .. of.key end
  return found
end

local function places(of)
  local found = {}
  for _, scope in ipairs(scopes(of)) do
    for _, span in ipairs(of.spans) do found[#found + 1] = scope .. '|' .. span end
  end
  return found
end

-- Add `held` to what the scopes of `of` hold and `spent` to what they have spent. What comes to nothing is not kept.
local function add(of, held, spent)
  local fields = {}
  for i, place in ipairs(places(of)) do
    if held ~= 0 then fields[#fields + 1] = 'h|' .. place end
    if spent ~= 0 then fields[#fields + 1] = 's|' .. place end
  end
  if #fields == 0 then return end
  local found = call('HMGET', meter, unpack(fields))
  local set, gone = {}, {}
  for i, field in ipairs(fields) do
    local sum = (tonumber(found[i]) or 0) + (string.byte(field) == 104 and held or spent)
    if sum == 0 then
      gone[#gone + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = sum
    end
  end
  if #set > 0 then call('HSET', meter, unpack(set)) end
  if #gone > 0 then call('HDEL', meter, unpack(gone)) end
end

local function held(id)
  local packed = call('HGET', prefix .. 'holds', id)
  return packed and cmsgpack.unpack(packed)
end

local function keep_hold(id, hold)
  call('HSET', prefix .. 'holds', id, cmsgpack.pack(hold))
end

-- The flight of an answer belongs to the request that writes it.
local function land(flight, id)
  if flight and flight ~= '' and call('GET', prefix .. flight) == id then call('DEL', prefix .. flight) end
end

-- Without giving the money back.
local function forget_hold(id, hold)
  call('HDEL', prefix .. 'holds', id)
  call('ZREM', prefix .. 'expiring', id)
  land(hold.flight, id)
end

local function drop_hold(id, hold)
  add(hold, -hold.micro, 0)
  forget_hold(id, hold)
end

local function is_alike(one, other)
  return one.bu == other.bu and one.plane == other.plane and one.key == other.key and one.spans[1] == other.spans[1]
end

-- What was spent takes the place of its hold, if it has one.
local function spend(id, hold, of, micro)
  if hold and is_alike(hold, of) then
    add(hold, -hold.micro, micro)
    forget_hold(id, hold)
    return
  end
  if hold then drop_hold(id, hold) end
  add(of, 0, micro)
end

-- Ids that were settled, so that twice is once. They are forgotten when their events have left the stream for ROLL_US, see remove.
local function mark_done(id, place)
  local minute = math.floor(tonumber(string.match(place, '^%d+')) / 60000)
  call('SADD', prefix .. 'done:' .. whole(minute), id)
  call('ZADD', prefix .. 'done', minute, minute)
end

local function is_done(id)
  for _, minute in ipairs(call('ZREVRANGE', prefix .. 'done', 0, -1)) do
    if call('SISMEMBER', prefix .. 'done:' .. minute, id) == 1 then return true end
  end
  return false
end

-- An event that nobody will settle: the ledger takes the whole hold as its cost, unless it has a line of that id already. The ledger
-- decides, and what it holds then goes to the counters (count), or is in them already (free).
local function lose(id, hold)
  return call('XADD', prefix .. 'events', '*', 'lost', id, 'at', whole(hold.at), 'plane', hold.plane, 'bu', hold.bu,
    'key', hold.key or '', 'kind', hold.kind, 'step', hold.step, 'instance', hold.instance, 'micro', hold.micro)
end

-- Holds that were given up while the counters were being made, see seed.
local function give_up(id)
  call('ZADD', prefix .. 'lost', whole(now), id)
end

local function is_lost(id)
  return call('ZSCORE', prefix .. 'lost', id)
end

-- End the holds whose process died: what had not begun is freed; what had is held on until the ledger has taken it as spent.
local function reap(limit)
  for _, id in ipairs(call('ZRANGEBYSCORE', prefix .. 'expiring', '-inf', whole(now), 'LIMIT', 0, limit)) do
    local hold = held(id)
    if hold and hold.begun then
      hold.lost = lose(id, hold)
      keep_hold(id, hold)
      call('ZREM', prefix .. 'expiring', id)
      land(hold.flight, id)
      call('HINCRBY', meter, 'lost', 1)
    elseif hold then
      drop_hold(id, hold)
    else
      call('ZREM', prefix .. 'expiring', id)
    end
  end
end

-- Caches of one run of the server only: after a crash it may have forgotten what it was told to forget.
local function cached(kind, tag, key)
  return prefix .. kind .. ':' .. string.sub(run, 1, 12) .. ':' .. tag .. ':' .. key
end

-- Whether one of the documents was forgotten since `at`; the empty one stands for everything of the business unit.
local function is_stale(tag, at, documents)
  local cleared = tonumber(call('HGET', meter, 'cleared') or 0)
  if cleared >= at then return true end
  for _, gone in ipairs(call('ZMSCORE', prefix .. 'gone:' .. tag, '', unpack(documents))) do
    if gone and tonumber(gone) >= at then return true end
  end
  return false
end

-- Whether there is a cached entry that is still true.
local function is_kept(key, tag)
  local found = call('HMGET', key, 'at', 'documents')
  if not found[1] then return false end
  if is_stale(tag, tonumber(found[1]), cmsgpack.unpack(found[2])) then
    call('UNLINK', key)
    return false
  end
  return true
end

local function take(key, bu, streamed)
  local found = call('HMGET', key, 'record', 'cost', streamed and 'shown' or 'none')
  call('HINCRBY', prefix .. 'stats', 'hits|' .. bu, 1)
  call('HINCRBY', prefix .. 'stats', 'saved|' .. bu, found[2])
  return found[1], found[3]
end
