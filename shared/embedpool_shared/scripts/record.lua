#!lua flags=allow-oom
-- Write, change or remove an account's record, if it is still what its writer read.
-- At the memory limit too: a key has to be blockable then.
--
-- KEYS  account
-- ARGV  record as read ("" for none), new record ("" removes it), how often its budget begins anew
--       ("" for never), seconds for which spend outlives the record
-- Returns 1 · 0 somebody else changed it, nothing was done

-- include period
local account, before, after, every = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

if (redis.call('HGET', account, 'record') or '') ~= before then
  return 0
end
if after == '' then
  -- What was just spent may still be on its way here, and must not be added to twice.
  redis.call('HDEL', account, 'record', 'every', 'reset_at')
  redis.call('EXPIRE', account, ARGV[4])
  return 1
end
if before == '' then
  redis.call('HDEL', account, 'cost', 'period_cost', 'requests', 'used', 'paid', 'saved', 'waste')
  redis.call('PERSIST', account)
end
redis.call('HSET', account, 'record', after)
if every == '' then
  redis.call('HDEL', account, 'every', 'reset_at')
elseif redis.call('HGET', account, 'every') ~= every then
  redis.call('HDEL', account, 'reset_at')
  redis.call('HSET', account, 'every', every)
  roll_over(account, tonumber(redis.call('TIME')[1]))
end
return 1
