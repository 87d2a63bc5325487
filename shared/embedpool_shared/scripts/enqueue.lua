#!lua
-- Put one pack into a lane, once: repeating it after a broken connection changes nothing.
-- Without allow-oom on purpose: a new pack is the one thing Redis may refuse at maxmemory.
--
-- KEYS  stream, depth, pk, inbox
-- ARGV  group, pack id, blob, jobs, items, bytes, tokens, pk TTL ms, inbox TTL ms,
--       max items, max bytes, numbers ("3,7" of the pack's jobs; "" for all)
-- Returns {verdict, lane created, items waiting, items served in the last full second}
--   verdict  1 enqueued · 0 was enqueued before · -1 the queue is full
local stream, depth, pk, inbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, pack_id, blob = ARGV[1], ARGV[2], ARGV[3]
local items, bytes, tokens = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- One look in the usual case, a new pack and nothing else: a name counts as often as it is given.
local created = 0
if redis.call('EXISTS', stream, inbox, pk, pk, pk) ~= 2 then
  -- An empty stream marks the api as listening; XADD and XDEL would not leave one behind cheaper.
  if redis.call('EXISTS', inbox) == 0 then
    redis.call('XGROUP', 'CREATE', inbox, 'created', '$', 'MKSTREAM')
    redis.call('PEXPIRE', inbox, ARGV[9])
  end
  if redis.call('EXISTS', pk) == 1 then
    return {0, 0, 0, 0}
  end
  created = 1 - redis.call('EXISTS', stream)
end

local waiting = redis.call('HMGET', depth, 'items', 'bytes', 'served_before', 'tokens')
local waiting_items, waiting_bytes = tonumber(waiting[1] or 0), tonumber(waiting[2] or 0)
if waiting_items > 0 and (waiting_items + items > tonumber(ARGV[10])
    or waiting_bytes + bytes > tonumber(ARGV[11])) then
  return {-1, 0, waiting_items, tonumber(waiting[3] or 0)}
end

if created == 1 then
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end
local now = redis.call('TIME')
local entry = redis.call('XADD', stream, '*', 'id', pack_id, 'p', blob, 'c', ARGV[4], 'n', ARGV[12],
  't', now[1] .. string.format('%06d', now[2]), 'd', '0')
redis.call('SET', pk, entry, 'PX', ARGV[8])
redis.call('HSET', depth, 'items', waiting_items + items, 'bytes', waiting_bytes + bytes,
  'tokens', (waiting[4] or 0) + tokens)
return {1, created, waiting_items + items, tonumber(waiting[3] or 0)}
