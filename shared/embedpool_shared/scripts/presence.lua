#!lua flags=allow-oom
-- Say that a process lives, and learn who else does. Presence ends on Redis' own clock.
--
-- KEYS  alive, catalog
-- ARGV  process id, TTL ms (0: leave)
-- Returns {was known, Redis time µs, version of the catalogue, living process ids …}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local was_known = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 600000)
end
local result = {was_known, tonumber(now[1] .. string.format('%06d', now[2])),
  redis.call('HGET', KEYS[2], 'version') or ''}
for _, process in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  result[#result + 1] = process
end
return result
