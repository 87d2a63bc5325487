#!lua flags=allow-oom
-- Take back what requests will not use, and say how many an api process still has in flight.
-- Both may be repeated: a reservation is given back once, and the number is not a difference.
--
-- KEYS  window, held
-- ARGV  api id, its requests in flight ("" where they are not limited), lease ms, then for each request:
--       reservation, its number in it ("" for all that are in it), jobs, tokens and cost reserved for it
-- Returns how many requests were given back

-- include minute
-- include holds
local window, held = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

local ids = {}
for at = 4, #ARGV, 5 do
  ids[#ids + 1] = ARGV[at]
end
local found, changes, given_back = reservations(held, ids), {}, 0

local function give_back_all(one)
  note_change(changes, one.second, 0 - one.requests, 0 - one.tokens)
  given_back = given_back + one.requests
  one.jobs, one.requests = 0, 0
end

local function give_back(one, number, jobs, tokens, cost)
  if one.jobs <= 0 or string.find(',' .. one.returned, ',' .. number .. ',', 1, true) then
    return
  end
  note_change(changes, one.second, -1, 0 - tokens)
  given_back = given_back + 1
  one.returned, one.requests = one.returned .. number .. ',', one.requests - 1
  take(held, one, jobs, tokens, cost)
end

for at = 4, #ARGV, 5 do
  local one, number = found[ARGV[at]], ARGV[at + 1]
  if one and number == '' then
    give_back_all(one)
  elseif one then
    give_back(one, number, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]))
  end
end
correct_minute(window, changes)
keep_rest(held, found)
if ARGV[2] ~= '' then
  local _, leases = others_in_flight(redis.call('HGET', held, ':leases'), ARGV[1], now_ms)
  write_lease(held, leases, ARGV[1], tonumber(ARGV[2]), now_ms, tonumber(ARGV[3]))
  keep_for(held, tonumber(ARGV[3]))
end
return given_back
