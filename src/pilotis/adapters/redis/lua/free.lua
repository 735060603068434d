-- ARGV[3..] are ids whose lines in the ledger are in the counters, or are summed next: what is still held for them is not needed.
local epoch = standing()
local freed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local hold = held(id)
  if hold then
    drop_hold(id, hold)
    freed = freed + 1
  end
  call('HDEL', prefix .. 'unclaimed', id)
  -- Whether the sums to come hold them nobody knows yet: `count` must be able to add them.
  if epoch then mark_done(id, whole(now / 1000)) else give_up(id) end
end
return freed
