#!lua flags=allow-oom
-- Take a lane's ledger range by range: forget the range that was applied, hand out the next one.
-- One worker at a time, by a lease. The range being applied is remembered by its last id (nothing is
-- ever added below it), so whoever comes after a crash gets that very range first.
--
-- KEYS  roll, ledger
-- ARGV  owner, lease ms, most entries, most bytes, last id of the range just applied ("" for none)
-- Returns {1, entries} the next range; without entries nothing is left and the lease is given back
--       · {0} another worker has the lease, nothing was done
local roll, ledger, owner = KEYS[1], KEYS[2], ARGV[1]
local most_entries, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local PAGE = 100

local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local held = redis.call('HMGET', roll, 'owner', 'until', 'last')
local last = held[3]
if held[1] and held[1] ~= owner and tonumber(held[2]) > now_ms then
  return {0}
end

if last and held[1] == owner and last == ARGV[5] then
  local ms, sequence = string.match(last, '^(%d+)-(%d+)$')
  redis.call('XTRIM', ledger, 'MINID', ms .. '-' .. string.format('%.0f', sequence + 1))
  last = false
end

local function next_range()
  local range, bytes, from = {}, 0, '-'
  while true do
    local page = redis.call('XRANGE', ledger, from, '+', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      bytes = bytes + #entry[2][2]
      if #range == most_entries or (#range > 0 and bytes > most_bytes) then
        return range
      end
      range[#range + 1] = entry
    end
    if #page < PAGE then
      return range
    end
    from = '(' .. page[PAGE][1]
  end
end

local entries = last and redis.call('XRANGE', ledger, '-', last) or {}
if #entries == 0 then
  entries = next_range()
end
if #entries == 0 then
  redis.call('DEL', roll)
  return {1, entries}
end
redis.call('HSET', roll, 'owner', owner, 'until', string.format('%.0f', now_ms + ARGV[2]),
  'last', entries[#entries][1])
return {1, entries}
