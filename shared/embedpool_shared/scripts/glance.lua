#!lua flags=no-writes,allow-oom
-- Look at a lane without touching it. Here and not by single commands, because the oldest pack's
-- arrival is wanted and not its texts.
--
-- KEYS  depth, interactive stream, bulk stream, dead letters
-- ARGV  group, most dead letters
-- Returns {Redis time µs, depth {items, bytes, tokens, second, served, served_before}, dead letters,
--          the newest of them {{id, fields} …}, then for each stream
--          {packs, arrival of the oldest µs (0: none), packs leased by consumer {consumer, count …}}}

-- include arrival
local group, most = ARGV[1], ARGV[2]

local function leased(stream)
  local flat = {}
  local summary = redis.pcall('XPENDING', stream, group) -- an error where there is no stream
  for _, consumer in ipairs(not summary.err and summary[4] or {}) do
    flat[#flat + 1] = consumer[1]
    flat[#flat + 1] = tonumber(consumer[2])
  end
  return flat
end

local now = redis.call('TIME')
local result = {
  tonumber(now[1] .. string.format('%06d', now[2])),
  redis.call('HMGET', KEYS[1], 'items', 'bytes', 'tokens', 'second', 'served', 'served_before'),
  redis.call('XLEN', KEYS[4]),
  redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', most),
}
for index = 2, 3 do
  result[#result + 1] = {
    redis.call('XLEN', KEYS[index]), arrival(KEYS[index]), leased(KEYS[index]),
  }
end
return result
