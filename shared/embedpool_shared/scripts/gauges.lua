#!lua flags=no-writes,allow-oom
-- Measure what waits in a lane: how much, and for how long. Texts and records stay where they are.
--
-- KEYS  depth, interactive stream, bulk stream, ledger
-- ARGV  none
-- Returns {Redis time µs, {items, tokens, bytes}, arrival of the oldest interactive pack µs
--          (0: none), of the oldest bulk pack, when the oldest ledger entry was added ms (0: none)}

-- include arrival
local now = redis.call('TIME')
local entry = oldest(KEYS[4])
return {
  tonumber(now[1] .. string.format('%06d', now[2])),
  redis.call('HMGET', KEYS[1], 'items', 'tokens', 'bytes'),
  arrival(KEYS[2]),
  arrival(KEYS[3]),
  entry and tonumber(string.match(entry[1], '^(%d+)')) or 0,
}
