-- What was admitted in the last 60 seconds: in the hash `window` a field per second of Redis' clock,
-- "requests tokens ms-it-counts-until", and `:sums` over them, "requests tokens oldest newest
-- ms-the-oldest-counts-until". A second counts for 60 s from its last request, whole, so no sliding minute
-- ever holds more than a limit. Included where requests are counted in or given back.

-- One more than a minute: Redis' time is rounded down to milliseconds.
local COUNTS_FOR_MS = 60001

local function second_from(name, text)
  local requests, tokens, counts_until = string.match(text or '', '^(%d+) (%d+) (%d+)$')
  return requests and {name = name, requests = tonumber(requests), tokens = tonumber(tokens),
    counts_until = tonumber(counts_until)}
end

local function read_second(window, name)
  return second_from(name, redis.call('HGET', window, name) or nil)
end

local function second_text(second)
  return string.format('%.0f %.0f %.0f', second.requests, second.tokens, second.counts_until)
end

local function sums_text(sums)
  return string.format('%.0f %.0f %.0f %.0f %.0f',
    sums.requests, sums.tokens, sums.oldest, sums.newest, sums.oldest_until)
end

local function sums_from(window, text)
  local requests, tokens, oldest, newest, oldest_until =
    string.match(text or '', '^(%d+) (%d+) (%d+) (%d+) ?(%d*)$')
  if not requests then
    return nil
  end
  if newest - oldest > 120 then
    -- Only a clock that was set spreads a minute so far: too far to walk over.
    redis.call('DEL', window)
    return nil
  end
  return {requests = tonumber(requests), tokens = tonumber(tokens), oldest = tonumber(oldest),
    newest = tonumber(newest), oldest_until = tonumber(oldest_until) or 0}
end

-- Forgets the seconds that count no more. Returns the sums over the others.
local function forget_earlier(window, sums, now_s, now_ms)
  while sums.oldest <= sums.newest do
    local second = read_second(window, string.format('%.0f', sums.oldest))
    if second and second.counts_until > now_ms then
      sums.oldest_until = second.counts_until
      redis.call('HSET', window, ':sums', sums_text(sums))
      return sums
    end
    if second then
      sums.requests, sums.tokens = sums.requests - second.requests, sums.tokens - second.tokens
      redis.call('HDEL', window, second.name)
    end
    sums.oldest = sums.oldest + 1
  end
  redis.call('DEL', window)
  return {requests = 0, tokens = 0, oldest = now_s, newest = now_s, oldest_until = 0}
end

-- Returns the sums over the seconds that still count, and this second if it is one of them.
local function last_minute(window, name, now_s, now_ms)
  local found = redis.call('HMGET', window, ':sums', name)
  local sums = sums_from(window, found[1])
  if sums and sums.oldest_until > now_ms then
    return sums, second_from(name, found[2])
  end
  sums = sums or {requests = 0, tokens = 0, oldest = now_s + 1, newest = now_s}
  return forget_earlier(window, sums, now_s, now_ms), read_second(window, name)
end

-- Counts requests into this second; `second` is what counts in it so far.
local function count_in(window, sums, second, name, requests, tokens, now_s, now_ms)
  local is_new = not second
  second = second or {requests = 0, tokens = 0}
  second.requests, second.tokens = second.requests + requests, second.tokens + tokens
  second.counts_until = now_ms + COUNTS_FOR_MS
  sums.requests, sums.tokens = sums.requests + requests, sums.tokens + tokens
  sums.oldest, sums.newest = math.min(sums.oldest, now_s), math.max(sums.newest, now_s)
  if sums.oldest == now_s then
    sums.oldest_until = second.counts_until
  end
  redis.call('HSET', window, name, second_text(second), ':sums', sums_text(sums))
  if is_new then
    redis.call('PEXPIRE', window, COUNTS_FOR_MS + 1000)
  end
end

-- Changes what seconds count for, by second: {requests, tokens}; those that lapsed stay as they are.
local function correct_minute(window, changes)
  local sums = next(changes) and sums_from(window, redis.call('HGET', window, ':sums') or nil)
  for name, change in pairs(sums and changes or {}) do
    local second = read_second(window, name)
    if second then
      for _, kind in ipairs({'requests', 'tokens'}) do
        local corrected = math.max(0, second[kind] + change[kind])
        sums[kind] = sums[kind] + corrected - second[kind]
        second[kind] = corrected
      end
      redis.call('HSET', window, name, second_text(second), ':sums', sums_text(sums))
    end
  end
end

local function note_change(changes, name, requests, tokens)
  local change = changes[name] or {requests = 0, tokens = 0}
  change.requests, change.tokens = change.requests + requests, change.tokens + tokens
  changes[name] = change
end
