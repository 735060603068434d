-- Events up to the place ARGV[3] are in the ledger.
local events = prefix .. 'events'
local ids = {}
repeat
  local found = call('XRANGE', events, '-', ARGV[3], 'COUNT', 500)
  for i, one in ipairs(found) do ids[i] = one[1] end
  if #found > 0 then call('XDEL', events, unpack(ids, 1, #found)) end
until #found < 500
call('HSET', meter, 'trimmed', ARGV[3])

-- Forget which ids were settled in minutes all of whose events left the stream at least ROLL_US ago.
local rolled = call('HMGET', meter, 'rolled', 'rolled_to')
if not rolled[1] or now - rolled[1] > ROLL_US or now < tonumber(rolled[1]) then
  if rolled[2] then
    for _, minute in ipairs(call('ZRANGEBYSCORE', prefix .. 'done', '-inf', '(' .. rolled[2])) do
      call('UNLINK', prefix .. 'done:' .. minute)
      call('ZREM', prefix .. 'done', minute)
    end
  end
  local first = call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  local ms = first and tonumber(string.match(first[1], '^%d+')) or now / 1000
  call('HSET', meter, 'rolled', whole(now), 'rolled_to', whole(math.floor(ms / 60000)))
end
return 1
