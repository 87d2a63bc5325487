#!lua flags=allow-oom
-- Let a provider key rest for all workers, or say that a retired one works again.
-- A rest already begun is never shortened. Slots are halved at most once in a round trip, so that
-- several workers whose calls fail together act as one.
--
-- KEYS  provider key
-- ARGV  'cooling', 'retired', 'halve' or 'well', for ms, reason, slots configured, round trip ms,
--       1 to halve the slots
-- Returns the slots
local key, what, time = KEYS[1], ARGV[1], redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms, most_slots = now + ARGV[2], tonumber(ARGV[4])

local function rest(field)
  if until_ms > (tonumber(redis.call('HGET', key, field)) or 0) then
    redis.call('HSET', key, field, string.format('%.0f', until_ms), 'reason', ARGV[3])
  end
end

if what == 'cooling' then
  rest('cooling_until')
elseif what == 'retired' then
  rest('retired_until')
elseif what == 'well' then
  redis.call('HDEL', key, 'retired_until')
end

local known = redis.call('HMGET', key, 'slots', 'slots_at')
local slots = math.min(tonumber(known[1]) or most_slots, most_slots)
if ARGV[6] == '1' and now - (tonumber(known[2]) or 0) >= tonumber(ARGV[5]) then
  slots = math.max(1, math.floor(slots / 2))
  redis.call('HSET', key, 'slots', slots, 'slots_at', string.format('%.0f', now))
end
if redis.call('PTTL', key) < until_ms - now + 60000 then
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(900000, until_ms - now + 60000)))
end
return slots
