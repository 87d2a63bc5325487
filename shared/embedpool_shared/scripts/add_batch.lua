#!lua
-- Keep a new batch and list it as one that has not ended; asked again, the one that is there stays.
-- Without allow-oom on purpose: new work waits until Redis has room again.
--
-- KEYS  batch, its owner's batches, everybody's batches, active batches, its input file
-- ARGV  id, record, status, created at, seconds for which lists live, what batches' names begin with,
--       most active batches of an owner ("" for any number)
-- Returns 1 · 0 there is no such file · -1 the owner has as many active ones: nothing was done
local batch, active, file = KEYS[1], KEYS[4], KEYS[5]
local id, created_at, live_s, prefix = ARGV[1], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local STEP = 100

if redis.call('EXISTS', batch) == 1 then
  return 1
end
if not redis.call('HGET', file, 'record') then
  return 0
end
local most = tonumber(ARGV[7])
if most and redis.call('ZINTERCARD', 2, KEYS[2], active, 'LIMIT', most) >= most then
  return -1
end

local function drop_gone(list)
  local before = string.format('%.0f', redis.call('TIME')[1] - live_s)
  for _, old in ipairs(redis.call('ZRANGE', list, '-inf', before, 'BYSCORE', 'LIMIT', 0, STEP)) do
    if redis.call('EXISTS', prefix .. old) == 0 then
      redis.call('ZREM', list, old)
    end
  end
end

redis.call('HSET', batch, 'record', ARGV[2], 'status', ARGV[3])
redis.call('ZADD', active, created_at, id)
for index = 2, 3 do
  drop_gone(KEYS[index])
  redis.call('ZADD', KEYS[index], created_at, id)
  redis.call('EXPIRE', KEYS[index], live_s)
end
return 1
