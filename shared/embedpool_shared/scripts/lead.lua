#!lua flags=allow-oom
-- Take, keep or give back the lease under which one worker process runs all batches.
-- Nobody has it while no batch is under way. Epochs grow even where Redis forgot the last one.
--
-- KEYS  lease, active batches
-- ARGV  owner, lease ms (0 gives it back)
-- Returns {epoch, 0} under which the owner has it · {0, ms for which another one has it, or 0}
local lease, active = KEYS[1], KEYS[2]
local owner, lease_ms = ARGV[1], tonumber(ARGV[2])
local KEPT_S = 7 * 24 * 3600

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local has = redis.call('HMGET', lease, 'owner', 'until', 'epoch')
local is_mine, is_held = has[1] == owner, has[1] and tonumber(has[2]) > now_ms
if is_held and not is_mine then
  return {0, tonumber(has[2]) - now_ms}
end
if lease_ms == 0 or redis.call('ZCARD', active) == 0 then
  if is_mine then
    redis.call('HDEL', lease, 'owner', 'until')
  end
  return {0, 0}
end
local epoch = tonumber(has[3] or 0)
if not (is_mine and is_held) then
  epoch = math.max(epoch + 1, tonumber(now[1]))
end
redis.call('HSET', lease, 'owner', owner, 'until', string.format('%.0f', now_ms + lease_ms),
  'epoch', string.format('%.0f', epoch))
redis.call('EXPIRE', lease, KEPT_S)
return {epoch, 0}
