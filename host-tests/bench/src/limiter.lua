-- The same job as the gate's, as an expert would write it in Lua: key -> tier, one rule on method and
-- path, a bucket (GCRA) per key, three rate headers. No digest of the key: the table holds it in clear.
-- Each worker has buckets of its own: this is not exact over workers, and the gate is.

local COUNT, WINDOW_MS, KEYS = @COUNT@, 60000, @KEYS@
local EMISSION = WINDOW_MS / COUNT
local TOLERANCE = WINDOW_MS

local tier_of, tat_of = {}, {}
for i = 1, KEYS do
  tier_of[string.format("@PREFIX@%031d", i)] = "enterprise"
end

local find, sub, floor, max, ceil = string.find, string.sub, math.floor, math.max, math.ceil

function envoy_on_request(handle)
  local headers = handle:headers()
  local value = headers:get("authorization")
  local key = value and sub(value, 1, 7) == "Bearer " and sub(value, 8)
  if not (key and tier_of[key]) then
    handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, "unauthorized\n")
    return
  end
  if headers:get(":method") ~= "GET" or find(headers:get(":path"), "/v1/", 1, true) ~= 1 then
    handle:respond({ [":status"] = "403" }, "forbidden\n")
    return
  end
  local now = handle:timestamp()
  local tat = max(tat_of[key] or now, now) + EMISSION
  if tat > now + TOLERANCE then
    handle:respond({ [":status"] = "429", ["retry-after"] = tostring(ceil((tat - now - TOLERANCE) / 1000)) }, "slow down\n")
    return
  end
  tat_of[key] = tat
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("bench", "remaining", floor((now + TOLERANCE - tat) / EMISSION))
  metadata:set("bench", "reset", ceil((tat - now) / 1000))
end

function envoy_on_response(handle)
  local standing = handle:streamInfo():dynamicMetadata():get("bench")
  if standing then
    local headers = handle:headers()
    headers:add("x-ratelimit-limit", tostring(COUNT))
    headers:add("x-ratelimit-remaining", tostring(standing.remaining))
    headers:add("x-ratelimit-reset", tostring(standing.reset))
  end
end
