-- The cost takes the place of the hold, and its event goes to the stream; what others may use goes to the caches.
-- ARGV[3] says what is settled, ARGV[4] is the event, ARGV[5..7] are the answer, the passages it shows and those of its search.
local one = cjson.decode(ARGV[3])
local epoch, trimmed = standing()
local hold = held(one.id)

land(one.flight, one.id)

-- It expired, and the ledger is taking the whole hold as its cost, or will take what it is told before that.
if (hold and hold.lost) or is_lost(one.id) then
  call('HINCRBY', meter, 'late', 1)
  return {'late', whole(now), '', epoch, trimmed}
end
if not hold and is_done(one.event) then return {'done', whole(now), '', epoch, trimmed} end

local place = call('XADD', prefix .. 'events', '*', 'event', ARGV[4])
-- The counters are made from the ledger next, and the stream goes there before.
if not epoch then
  if hold then drop_hold(one.id, hold) end
  call('HDEL', prefix .. 'unclaimed', one.id)
  return {'settled', whole(now), place, false, trimmed}
end
if one.micro > 0 then
  mark_done(one.event, place)
  if one.event ~= one.id then mark_done(one.id, place) end
end
spend(one.id, hold, one, one.micro)

local keep = one.keep
-- What was admitted before the counters were made is not kept: with them it may have been lost which of its documents went meanwhile.
if keep and keep.at > (tonumber(call('HGET', meter, 'seeded')) or 0) and not is_stale(one.tag, keep.at, keep.documents) then
  local documents = cmsgpack.pack(keep.documents)
  local stored = {}
  local function store(key, record, shown)
    call('HSET', key, 'record', record, 'shown', shown, 'cost', one.micro, 'at', whole(keep.at), 'documents', documents)
    call('PEXPIRE', key, keep.ttl_ms)
    stored[#stored + 1] = key
  end
  if keep.answer then store(cached('answer', one.tag, keep.answer), ARGV[5], ARGV[6]) end
  if keep.passages then store(cached('passages', one.tag, keep.passages), ARGV[7], '') end
  for _, document in ipairs(keep.documents) do
    local tags = prefix .. 'doc:' .. one.tag .. ':' .. document
    call('SADD', tags, unpack(stored))
    call('PEXPIRE', tags, keep.tags_ms)
  end
end
return {'settled', whole(now), place, epoch, trimmed}
