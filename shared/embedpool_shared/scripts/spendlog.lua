#!lua flags=allow-oom
-- Copy a lane's ledger entries to the spend log, each once, however often they are sent.
--
-- KEYS  spend log, last ids copied by lane
-- ARGV  lane, bound, then for each entry in order: its id in the ledger, its records
-- Returns how many were copied
local log, seen, lane, bound = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local last_ms, last_sequence = parts(redis.call('HGET', seen, lane) or '0-0')
local copied, last = 0, false
for at = 3, #ARGV, 2 do
  local ms, sequence = parts(ARGV[at])
  if ms > last_ms or (ms == last_ms and sequence > last_sequence) then
    redis.call('XADD', log, 'MAXLEN', '~', bound, '*', 'r', ARGV[at + 1], 'i', ARGV[at], 'l', lane)
    last, last_ms, last_sequence = ARGV[at], ms, sequence
    copied = copied + 1
  end
end
if last then
  redis.call('HSET', seen, lane, last)
end
return copied
