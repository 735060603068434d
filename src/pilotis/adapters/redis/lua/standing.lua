-- The epoch of the counters, up to where the stream was removed, and the time. ARGV[4..] are flights and their owners, who live and
-- have them for ARGV[3] milliseconds more.
for i = 4, #ARGV, 2 do
  if call('GET', prefix .. ARGV[i]) == ARGV[i + 1] then call('PEXPIRE', prefix .. ARGV[i], ARGV[3]) end
end
local epoch, trimmed = standing()
return {epoch, trimmed, whole(now)}
