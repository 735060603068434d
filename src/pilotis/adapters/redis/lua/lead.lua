-- ARGV[3] is a process that would lead, for ARGV[4] milliseconds. Whoever asks also ends what has expired.
if (standing()) then reap(10 * REAPED) end
local leader = call('GET', prefix .. 'leader')
if leader and leader ~= ARGV[3] then return 0 end
call('SET', prefix .. 'leader', ARGV[3], 'PX', ARGV[4])
return 1
