-- The algorithm of bucket.rs. KEYS[1]: r and t (debts) and at (milliseconds) of a consumer; no key is no debt.
-- ARGV: now in milliseconds, or -1 for the time of this server; limits of requests and tokens; costs of both;
-- 'admit' or 'settle' (the cost in tokens may be negative, and nobody is asked).
-- Returns whether the cost is taken, and both debts.
local PARTS, HOUR = 60000, 3600000
local now = tonumber(ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local requests, tokens = tonumber(ARGV[2]), tonumber(ARGV[3])
local request_cost, token_cost = tonumber(ARGV[4]) * PARTS, tonumber(ARGV[5]) * PARTS
local state = redis.call('HMGET', KEYS[1], 'r', 't', 'at')
local elapsed = math.min(math.max(now - (tonumber(state[3]) or now), 0), HOUR)
local function leaked(debt, limit)
  return math.max(math.min(tonumber(debt) or 0, HOUR * limit) - elapsed * limit, 0)
end
local r, t = leaked(state[1], requests), leaked(state[2], tokens)
if ARGV[6] == 'settle' then
  t = math.min(math.max(t + token_cost, 0), HOUR * tokens)
elseif (requests > 0 and r + request_cost > requests * PARTS) or (tokens > 0 and t + token_cost > tokens * PARTS) then
  return { 0, r, t }
else
  if requests > 0 then r = r + request_cost end
  if tokens > 0 then t = t + token_cost end
end
if r == 0 and t == 0 then
  redis.call('DEL', KEYS[1])
else
  local life = math.max(requests > 0 and math.ceil(r / requests) or 0, tokens > 0 and math.ceil(t / tokens) or 0)
  local text = function(number) return string.format('%.0f', number) end
  redis.call('HSET', KEYS[1], 'r', text(r), 't', text(t), 'at', text(now))
  -- A minute longer than needed, for replicas whose clocks differ.
  redis.call('PEXPIRE', KEYS[1], text(life + PARTS))
end
return { 1, r, t }
