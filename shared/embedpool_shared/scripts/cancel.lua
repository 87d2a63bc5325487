#!lua flags=allow-oom
-- Mark jobs of one pack as no longer wanted. A pack never delivered, with nothing else in it, goes at once.
--
-- KEYS  stream, depth, pk, part, ledger
-- ARGV  group, numbers ("3,7"), whole pack (0|1), items, bytes, tokens, ledger blob
-- Returns 2 the pack was deleted · 1 marked · 0 the pack is not known any more
local stream, depth, pk, part = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local entry = redis.call('GET', pk)
if not entry then
  return 0
end
if ARGV[3] == '1' and string.find(entry, '^%d+-%d+$')
    and #redis.call('XPENDING', stream, ARGV[1], entry, entry, 1) == 0
    and redis.call('XDEL', stream, entry) == 1 then
  redis.call('HINCRBY', depth, 'items', -tonumber(ARGV[4]))
  redis.call('HINCRBY', depth, 'bytes', -tonumber(ARGV[5]))
  redis.call('HINCRBY', depth, 'tokens', -tonumber(ARGV[6]))
  redis.call('DEL', part)
  redis.call('XADD', KEYS[5], '*', 'r', ARGV[7])
  return 2
end
for number in string.gmatch(ARGV[2], '%d+') do
  redis.call('SETBIT', part, 2 * tonumber(number) + 1, 1)
end
redis.call('PEXPIRE', part, math.max(redis.call('PTTL', pk), 1000))
return 1
