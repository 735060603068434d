-- ARGV[3] names the business unit as it is part of keys, ARGV[4] as it is called; ARGV[5] the answer, ARGV[6] whether with passages.
local key = cached('answer', ARGV[3], ARGV[5])
if is_kept(key, ARGV[3]) then
  local record, shown = take(key, ARGV[4], ARGV[6] == '1')
  return {record, shown, 0}
end
return {false, false, call('EXISTS', prefix .. 'flight:' .. string.sub(run, 1, 12) .. ':' .. ARGV[3] .. ':' .. ARGV[5])}
