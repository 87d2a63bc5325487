#!lua flags=allow-oom
-- Book one part of a batch: its lines' ledger records and how far the batch is, together or not at all.
-- Fenced by the claim and by the line booked last: a part is booked once, however often it is sent.
--
-- KEYS  booked, ledger
-- ARGV  epoch, claim, line booked last, last line of the part, byte at which the next one begins,
--       seconds to keep it, part, why its lines were not sent ("" where they were),
--       lines answered, lines failed, tokens, cost in pico-dollars, ledger bound, records ("" for none)
-- Returns 1 booked, now or before, whoever has the batch by now · 0 another claim has the batch
--       · -1 another line was booked last; in the last two cases nothing of it is booked
local booked, ledger = KEYS[1], KEYS[2]
local before, last = ARGV[3], ARGV[4]
local SUMS = {'completed', 'failed', 'tokens', 'cost'}

local has = redis.call('HMGET', booked, 'epoch', 'claim', 'line', 'before', 'part:' .. before)
if has[1] ~= ARGV[1] or has[2] ~= ARGV[2] then
  -- A part's name has its claim in it: if this one is there, the reply that said so was lost.
  return has[5] == ARGV[7] and 1 or 0
end
if has[3] == last and has[4] == before then
  return 1
end
if (has[3] or '0') ~= before then
  return -1
end

redis.call('HSET', booked, 'line', last, 'before', before, 'offset', ARGV[5],
  'part:' .. before, ARGV[7], 'cut', ARGV[8])
for index, sum in ipairs(SUMS) do
  redis.call('HINCRBY', booked, sum, ARGV[8 + index])
end
redis.call('EXPIRE', booked, ARGV[6])
if ARGV[14] ~= '' then
  redis.call('XADD', ledger, 'MAXLEN', '~', ARGV[13], '*', 'r', ARGV[14])
end
return 1
