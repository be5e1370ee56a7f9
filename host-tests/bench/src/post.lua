-- What wrk sends: POST of the bodies of a file, one a line, in turn. Arguments: host, path, key, file, first body,
-- milliseconds before each request of a connection (0: none).

local requests, at = {}, 0

init = function(args)
  local head = "POST " .. args[2] .. " HTTP/1.1\r\nHost: " .. args[1] .. "\r\nAuthorization: Bearer " .. args[3] ..
    "\r\nContent-Type: application/json\r\nContent-Length: "
  for body in io.lines(args[4]) do
    requests[#requests + 1] = head .. #body .. "\r\n\r\n" .. body
  end
  at = tonumber(args[5]) % #requests
  local pause = tonumber(args[6])
  if pause > 0 then
    delay = function()
      return pause
    end
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("\nbench %d %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
