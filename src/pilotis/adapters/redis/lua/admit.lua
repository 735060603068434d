-- May a request be, at which step of the ladder, and was it answered before? Money is put aside for it where it may cost some.
-- ARGV[3] is what stays the same from request to request of one caller, ARGV[4] the request; see admission.py.
local who, ask = cjson.decode(ARGV[3]), cjson.decode(ARGV[4])

if now < ask.from or now >= ask.to then return {'clock', whole(now)} end

local epoch, trimmed = standing()
if not epoch then return {'unseeded', whole(now)} end
reap(REAPED)

-- Asked again after its reply was lost.
local before = held(ask.id)
if before then drop_hold(ask.id, before) end

local guards = call('HMGET', meter, 'g|env', 'g|bu:' .. who.bu)
local of_env, of_bu = tonumber(guards[1]) or 0, tonumber(guards[2]) or 0
-- The ladder is about what people ask: an evaluation judges the full service, whatever is served meanwhile.
local level = who.plane == 'batch' and 0 or math.min(math.max(of_env, of_bu), #ask.ceilings - 1)
local serves = who.serves[level + 1] or 'all'

local hit, found_at
if serves ~= 'nothing' then
  for i = 1, math.min(level + 1, #ask.answers) do
    local key = cached('answer', who.tag, ask.answers[i])
    if is_kept(key, who.tag) then
      hit, found_at = key, i - 1
      break
    end
  end
end

-- The generic cell rate algorithm, in its form of a theoretical arrival time (ITU-T I.371): TAT is when the next request would come
-- if all came at the agreed rate; one may come as much earlier as the burst allows.
local arrivals, worst, wait = {}, nil, 0
if not ask.resumed then
  local weight = hit and 1 or ask.weight
  for i, rate in ipairs(ask.rates) do
    local name, interval, burst = prefix .. 'rate:' .. rate[1], rate[2], rate[3]
    local most = now + burst * interval
    local tat = math.min(math.max(now, tonumber(call('GET', name)) or 0), most)
    local after = tat + math.ceil(math.min(weight, burst) * interval)
    if after - most > wait then worst, wait = i, after - most end
    arrivals[i] = {name, after}
  end
end
if worst then return {'rate', whole(now), worst - 1, whole(wait)} end

local function arrive()
  for _, arrival in ipairs(arrivals) do
    call('SET', arrival[1], whole(arrival[2]), 'PX', math.ceil((arrival[2] - now) / 1000) + 1)
  end
end

if serves == 'nothing' or (serves == 'cache' and not hit) then return {'guard', whole(now), level, of_bu > of_env and 1 or 0} end

if hit then
  arrive()
  local record, shown = take(hit, who.bu, ask.streamed)
  return {'hit', whole(now), level, found_at, record, shown}
end

local flight = ''
if #ask.answers > 0 then
  flight = 'flight:' .. string.sub(run, 1, 12) .. ':' .. who.tag .. ':' .. ask.answers[level + 1]
  local owner = call('GET', prefix .. flight)
  if owner and owner ~= ask.id then
    arrive()
    return {'other', whole(now), level}
  end
end

local micro = ask.ceilings[level + 1]
local hold = {
  micro = micro, begun = false, at = now, plane = who.plane, bu = who.bu, key = who.key, spans = ask.spans, kind = ask.kind,
  step = who.steps[level + 1] or who.steps[1], instance = who.instance, flight = flight,
}

-- What each scope has spent in each window, and what it holds; `wanted` is what it will hold.
local wanted = {}
if micro > 0 then
  local found = places(hold)
  local count = #found
  for i = 1, count do
    found[count + i] = 'h|' .. found[i]
    found[i] = 's|' .. found[i]
  end
  local sums = call('HMGET', meter, unpack(found))
  local tight
  for i = 1, count do
    local scope, window = math.ceil(i / 3), (i - 1) % 3 + 1
    local spent, waiting, limit = tonumber(sums[i]) or 0, tonumber(sums[count + i]) or 0, who.limits[scope][window]
    if limit >= 0 and spent + micro > limit then
      -- No hold that ends makes room here; of several windows the longest is named.
      if not tight or not tight[1] or window >= tight[3] then tight = {true, scope, window, spent, waiting, limit} end
    elseif limit >= 0 and spent + waiting + micro > limit and not tight then
      tight = {false, scope, window, spent, waiting, limit}
    end
    wanted[2 * i - 1] = found[count + i]
    wanted[2 * i] = waiting + micro
  end
  if tight then
    return {'budget', whole(now), tight[2] - 1, tight[3] - 1, tight[4], tight[5], tight[6], micro}
  end
end

arrive()
local passages = false
local key = ask.passages[level + 1]
if key then
  key = cached('passages', who.tag, key)
  if is_kept(key, who.tag) then
    passages = call('HGET', key, 'record')
    call('HINCRBY', prefix .. 'stats', 'passage_hits|' .. who.bu, 1)
  end
end
if flight ~= '' then
  call('SET', prefix .. flight, ask.id, 'PX', ask.flies)
  call('HINCRBY', prefix .. 'stats', 'misses|' .. who.bu, 1)
end
if micro > 0 then
  call('HSET', meter, unpack(wanted))
  keep_hold(ask.id, hold)
  call('ZADD', prefix .. 'expiring', whole(now + ask.lasts), ask.id)
end
return {'in', whole(now), level, micro, passages, flight, epoch, trimmed}
