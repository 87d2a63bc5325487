#!lua
-- Put an account on the list of its kind, and claim its alias.
--
-- KEYS  index, aliases
-- ARGV  id, alias ("" for none), a claim that counts for nothing ("" for none)
-- Returns "" · the claim of whoever has the alias: nothing was done
local index, aliases, id, alias = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local now_s = redis.call('TIME')[1]

if alias ~= '' then
  local claim = redis.call('HGET', aliases, alias)
  if claim and claim ~= ARGV[3] and string.match(claim, '^%d+ (.*)$') ~= id then
    return claim
  end
  redis.call('HSET', aliases, alias, now_s .. ' ' .. id)
end
redis.call('ZADD', index, now_s, id)
return ''
