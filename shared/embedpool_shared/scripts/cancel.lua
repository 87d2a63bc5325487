#!lua flags=allow-oom
-- Mark jobs of one pack as no longer wanted. A pack never delivered, with nothing else in it, goes at once.
-- Not one that was enqueued or put back in part: the sums are those of the whole pack.
--
-- KEYS  stream, depth, pk, part, ledger
-- ARGV  group, numbers ("3,7"), whole pack (0|1), items, bytes, tokens, ledger blob
-- Returns 2 the pack was deleted · 1 marked · 0 the pack is not known any more
local stream, depth, pk, part = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local entry = redis.call('GET', pk)
if not entry then
  return 0
end

local function is_complete()
  for _, found in ipairs(redis.call('XRANGE', stream, entry, entry)) do
    for index = 1, #found[2], 2 do
      if found[2][index] == 'n' then
        return found[2][index + 1] == ''
      end
    end
  end
  return false
end

if ARGV[3] == '1' and string.find(entry, '^%d+-%d+$') and is_complete()
    and #redis.call('XPENDING', stream, ARGV[1], entry, entry, 1) == 0 then
  redis.call('XDEL', stream, entry)
  -- Not `-x`: Redis 7.0 writes a Lua minus zero as "-0", and refuses it as an integer.
  redis.call('HINCRBY', depth, 'items', 0 - ARGV[4])
  redis.call('HINCRBY', depth, 'bytes', 0 - ARGV[5])
  redis.call('HINCRBY', depth, 'tokens', 0 - ARGV[6])
  redis.call('DEL', part)
  redis.call('XADD', KEYS[5], '*', 'r', ARGV[7])
  return 2
end
for number in string.gmatch(ARGV[2], '%d+') do
  redis.call('SETBIT', part, 2 * tonumber(number) + 1, 1)
end
redis.call('PEXPIRE', part, math.max(redis.call('PTTL', pk), 1000))
return 1
