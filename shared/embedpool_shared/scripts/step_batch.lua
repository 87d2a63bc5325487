#!lua flags=allow-oom
-- Bring a batch to another status and note something of it, if it is in one of these statuses now.
-- At the memory limit too: a batch has to be able to end then.
--
-- KEYS  batch, active batches
-- ARGV  id, new status ("" leaves it), field for the time of it ("" for none),
--       seconds for which it lives on ("" if it goes on), how many statuses, status …, field, value …
-- Returns its status afterwards · nil: there is no such batch
local batch, active = KEYS[1], KEYS[2]
local id, to, at_field, live_s = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local last_from = 5 + tonumber(ARGV[5])

local status = redis.call('HGET', batch, 'status')
if not status then
  return false
end
local is_right = false
for at = 6, last_from do
  is_right = is_right or ARGV[at] == status
end
if not is_right then
  return status
end

for at = last_from + 1, #ARGV, 2 do
  redis.call('HSET', batch, ARGV[at], ARGV[at + 1])
end
if to == '' then
  return status
end
redis.call('HSET', batch, 'status', to)
if to == 'cancelling' then
  redis.call('ZADD', active, 'XX', 0, id) -- first in the list: somebody waits for its end
end
if at_field ~= '' then
  redis.call('HSET', batch, at_field, redis.call('TIME')[1])
end
if live_s ~= '' then
  redis.call('ZREM', active, id)
  redis.call('EXPIRE', batch, live_s)
end
return to
