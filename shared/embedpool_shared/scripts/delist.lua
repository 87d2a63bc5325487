#!lua flags=allow-oom
-- Give an alias back, and take its account off the list of its kind.
--
-- KEYS  index, aliases
-- ARGV  id, alias ("" for none), Unix seconds: listed only if last heard of after that
local index, aliases, id, alias = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

local claim = alias ~= '' and redis.call('HGET', aliases, alias)
if claim and string.match(claim, '^%d+ (.*)$') == id then
  redis.call('HDEL', aliases, alias)
end
local heard_at = redis.call('ZSCORE', index, id)
if heard_at and tonumber(heard_at) <= tonumber(ARGV[3]) then
  redis.call('ZREM', index, id)
end
