-- What was admitted in the last 60 seconds: in the hash `window` a field per second of Redis' clock,
-- "requests tokens ms-it-counts-until", and `:sums` over them, "requests tokens oldest newest". A second
-- counts for 60 s from its last request, whole, so no sliding minute ever holds more than a limit.
-- Included where requests are counted in or given back.

-- One more than a minute: Redis' time is rounded down to milliseconds.
local COUNTS_FOR_MS = 60001

local function read_second(window, name)
  local requests, tokens, counts_until =
    string.match(redis.call('HGET', window, name) or '', '^(%d+) (%d+) (%d+)$')
  return requests and {name = name, requests = tonumber(requests), tokens = tonumber(tokens),
    counts_until = tonumber(counts_until)}
end

local function write_second(window, second)
  redis.call('HSET', window, second.name, string.format('%.0f %.0f %.0f',
    second.requests, second.tokens, second.counts_until))
end

local function write_sums(window, sums)
  redis.call('HSET', window, ':sums', string.format('%.0f %.0f %.0f %.0f',
    sums.requests, sums.tokens, sums.oldest, sums.newest))
end

local function read_sums(window)
  local requests, tokens, oldest, newest =
    string.match(redis.call('HGET', window, ':sums') or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if not requests then
    return nil
  end
  if newest - oldest > 120 then
    -- Only a clock that was set spreads a minute so far: too far to walk over.
    redis.call('DEL', window)
    return nil
  end
  return {requests = tonumber(requests), tokens = tonumber(tokens), oldest = tonumber(oldest),
    newest = tonumber(newest)}
end

-- Returns the sums over the seconds that still count; forgets the others for good.
local function last_minute(window, now_s, now_ms)
  local sums = read_sums(window) or {requests = 0, tokens = 0, oldest = now_s + 1, newest = now_s}
  local first = sums.oldest
  while sums.oldest <= sums.newest do
    local second = read_second(window, string.format('%.0f', sums.oldest))
    if second and second.counts_until > now_ms then
      if sums.oldest > first then
        write_sums(window, sums)
      end
      return sums
    end
    if second then
      sums.requests, sums.tokens = sums.requests - second.requests, sums.tokens - second.tokens
      redis.call('HDEL', window, second.name)
    end
    sums.oldest = sums.oldest + 1
  end
  redis.call('DEL', window)
  return {requests = 0, tokens = 0, oldest = now_s, newest = now_s}
end

-- Changes what seconds count for, by second: {requests, tokens}; those that lapsed stay as they are.
local function correct_minute(window, changes)
  local sums = next(changes) and read_sums(window)
  for name, change in pairs(sums and changes or {}) do
    local second = read_second(window, name)
    if second then
      for _, kind in ipairs({'requests', 'tokens'}) do
        local corrected = math.max(0, second[kind] + change[kind])
        sums[kind] = sums[kind] + corrected - second[kind]
        second[kind] = corrected
      end
      write_second(window, second)
      write_sums(window, sums)
    end
  end
end

local function note_change(changes, name, requests, tokens)
  local change = changes[name] or {requests = 0, tokens = 0}
  change.requests, change.tokens = change.requests + requests, change.tokens + tokens
  changes[name] = change
end
