#!lua flags=allow-oom
-- Take back what requests will not use, and say how many an api process still has in flight.
-- Both may be repeated: a reservation is given back once, and the number is not a difference.
--
-- KEYS  window, held
-- ARGV  api id, its requests in flight ("" where they are not limited), lease ms, request ids …
-- Returns how many reservations were given back

-- include minute
-- include holds
local window, held = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

local ids, changes = {}, {}
for at = 4, #ARGV do
  ids[#ids + 1] = ARGV[at]
end
local found = reservations(held, ids)
for _, one in ipairs(found) do
  note_change(changes, one.second, -1, 0 - one.tokens)
end
correct_minute(window, changes)
drop(held, found)
if ARGV[2] ~= '' then
  local _, leases = others_in_flight(held, ARGV[1], now_ms)
  write_lease(held, leases, ARGV[1], tonumber(ARGV[2]), now_ms, tonumber(ARGV[3]))
end
return #found
