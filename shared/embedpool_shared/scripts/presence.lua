#!lua flags=allow-oom
-- Say that a process lives, and learn who else does. Presence ends on Redis' own clock.
-- Runs for ever in every process, so the rare is done rarely: burying the dead, arming the TTL.
--
-- KEYS  alive, catalog
-- ARGV  process id, TTL ms (0: leave)
-- Returns {was known, Redis time µs, version of the catalogue, living process ids …}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local was_known = 0
if ARGV[2] == '0' then
  was_known = redis.call('ZREM', KEYS[1], ARGV[1])
else
  was_known = 1 - redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
end
if was_known == 0 or now[1] % 60 < 3 then
  redis.call('PEXPIRE', KEYS[1], 600000)
end
local result = {was_known, tonumber(now[1] .. string.format('%06d', now[2])),
  redis.call('HGET', KEYS[2], 'version') or ''}
local listed, has_dead = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), false
for index = 1, #listed, 2 do
  if tonumber(listed[index + 1]) > now_ms then
    result[#result + 1] = listed[index]
  else
    has_dead = true
  end
end
if has_dead then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
end
return result
