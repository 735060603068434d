-- May a call of ARGV[4] tokens go to the model ARGV[3]? Answers how many microseconds to wait; 0: it may, and has been counted.
-- ARGV[5], ARGV[6]: microseconds that one call and one token take of the quota, 0 where it has no such limit. ARGV[7]: how far
-- ahead of the quota the callers together may be. A call that is larger than that waits for the others, and others then for it.
local name = prefix .. 'pace:' .. ARGV[3]
local left = call('PTTL', name .. ':rest')
if left > 0 then return whole(left * 1000) end

local wait, after = 0, {}
for _, quota in ipairs({{'calls', ARGV[5], 1}, {'tokens', ARGV[6], tonumber(ARGV[4])}}) do
  local key, interval = name .. ':' .. quota[1], tonumber(quota[2])
  if interval > 0 then
    local arrival = math.max(now, tonumber(call('GET', key)) or 0)
    wait = math.max(wait, arrival - now - ARGV[7])
    after[#after + 1] = {key, arrival + interval * quota[3]}
  end
end
if wait > 0 then return whole(math.ceil(wait)) end
for _, arrival in ipairs(after) do
  call('SET', arrival[1], whole(arrival[2]), 'PX', math.ceil((arrival[2] - now) / 1000) + 1)
end
return '0'
