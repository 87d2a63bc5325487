#!lua flags=allow-oom
-- Begin or go on with a batch under an epoch. Each claim ends the one before it: whoever had that
-- books nothing any more, not even what is still on its way here.
--
-- KEYS  booked
-- ARGV  epoch, seconds to keep it
-- Returns {1, field, value …} the claim and what is booked so far
--       · {0} a younger epoch has it, nothing was done
local booked, epoch = KEYS[1], ARGV[1]

if tonumber(redis.call('HGET', booked, 'epoch') or 0) > tonumber(epoch) then
  return {0}
end
redis.call('HSET', booked, 'epoch', epoch)
redis.call('HINCRBY', booked, 'claim', 1)
redis.call('EXPIRE', booked, ARGV[2])
local result = redis.call('HGETALL', booked)
table.insert(result, 1, 1)
return result
