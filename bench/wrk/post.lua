-- wrk -s post.lua URL -- BODIES KEY [PAUSE_MS]
-- Posts the lines of the file BODIES in turn, as JSON. Before each request of a connection lies a pause drawn at random, of PAUSE_MS
-- in the mean. The last line printed is JSON.
local posts, sent = {}, 0

function init(args)
  local headers = { ["content-type"] = "application/json", ["authorization"] = "Bearer " .. args[2] }
  for line in io.lines(args[1]) do
    posts[#posts + 1] = wrk.format("POST", nil, headers, line)
  end
  local pause = tonumber(args[3] or "0")
  math.randomseed(os.time())
  if pause > 0 then
    function delay()
      return math.random(0, 2 * pause)
    end
  end
end

function request()
  sent = sent + 1
  return posts[(sent - 1) % #posts + 1]
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p95_ms": %.3f, "p99_ms": %.3f, "errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout
  ))
end
