#!lua
-- Find room for more cached vectors: bytes are counted by when they were stored, in sixteenths of
-- their time to live, and a count is forgotten once all its vectors must have expired.
--
-- KEYS  vectors
-- ARGV  time to live ms, most bytes, bytes to be stored
-- Returns 1 and counts them if there is room, else 0
local ttl_ms, most, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local width_ms = math.max(1, math.ceil(ttl_ms / 16))
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local total = 0
local counts = redis.call('HGETALL', KEYS[1])
for index = 1, #counts, 2 do
  -- Vectors are written a moment after they were counted: one period more than they live.
  if tonumber(counts[index]) + ttl_ms + 2 * width_ms <= now_ms then
    redis.call('HDEL', KEYS[1], counts[index])
  else
    total = total + tonumber(counts[index + 1])
  end
end
if total + bytes > most then
  return 0
end
local period = string.format('%.0f', math.floor(now_ms / width_ms) * width_ms)
redis.call('HINCRBY', KEYS[1], period, string.format('%.0f', bytes))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl_ms + 2 * width_ms))
return 1
