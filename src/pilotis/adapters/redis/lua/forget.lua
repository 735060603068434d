-- Documents ARGV[5..] of the business unit ARGV[3] are gone. A mark of each is kept for ARGV[4] microseconds: longer than anything
-- lasts that was made from it, so that what is being written just now is not kept either. No business unit means all that there is.
if ARGV[3] == '' then
  call('HSET', meter, 'cleared', whole(now))
  return 0
end
local gone = prefix .. 'gone:' .. ARGV[3]
local removed = 0
call('ZREMRANGEBYSCORE', gone, '-inf', whole(now - ARGV[4]))
for i = 5, #ARGV do
  call('ZADD', gone, whole(now), ARGV[i])
  local tags = prefix .. 'doc:' .. ARGV[3] .. ':' .. ARGV[i]
  for _, key in ipairs(call('SMEMBERS', tags)) do removed = removed + call('UNLINK', key) end
  call('UNLINK', tags)
end
return removed
