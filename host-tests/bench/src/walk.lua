-- What wrk sends: GET with 16 headers, the keys in turn. Arguments: host, key prefix, keys, first key.

local requests, count, at = {}, 0, 0

init = function(args)
  local host, prefix = args[1], args[2]
  count = tonumber(args[3])
  at = tonumber(args[4]) % count
  local before = "GET /v1/threats/feeds/latest?page=2 HTTP/1.1\r\nHost: " .. host .. "\r\nAuthorization: Bearer "
  local after = {
    "",
    "User-Agent: bench-client/1.0",
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en",
  }
  for i = 1, 10 do
    after[#after + 1] = string.format("X-H%d: value-of-header-number-%d", i, i)
  end
  after = table.concat(after, "\r\n") .. "\r\n\r\n"
  for i = 1, count do
    requests[i] = before .. prefix .. string.format("%031d", i) .. after
  end
end

request = function()
  at = at % count + 1
  return requests[at]
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("\nbench %d %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
