#!lua flags=allow-oom
-- Remember that accounts were heard of now; a kind with a bound forgets those heard of longest ago.
--
-- KEYS  the index of each kind
-- ARGV  for each kind: most ids kept (0: all), how many ids, ids …
-- Returns for each kind: the ids forgotten
local now_s = redis.call('TIME')[1]
local at, result = 1, {}
for index, ids in ipairs(KEYS) do
  local most, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  for offset = 1, count do
    redis.call('ZADD', ids, now_s, ARGV[at + 1 + offset])
  end
  result[index] = {}
  local surplus = most > 0 and redis.call('ZCARD', ids) - most or 0
  if surplus > 0 then
    local forgotten = redis.call('ZPOPMIN', ids, surplus)
    for pair = 1, #forgotten, 2 do
      table.insert(result[index], forgotten[pair])
    end
  end
  at = at + 2 + count
end
return result
