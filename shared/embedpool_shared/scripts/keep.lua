#!lua flags=allow-oom
-- Renew the leases a worker still owns, and take over those that nobody renewed.
-- XCLAIM JUSTID has no owner check, so a resumed zombie would steal entries back: ask first.
--
-- KEYS  interactive stream, bulk stream
-- ARGV  group, consumer, lease ms, most to take over, then for each stream:
--       cursor, how many held, held entry ids …
-- Returns {Redis time µs, for each stream: {next cursor, lost ids, {entry, deliveries so far, fields} …,
--          still pending}}
local group, consumer = ARGV[1], ARGV[2]
local at = 5
local result = {}

local function renew(stream, held)
  local lost = {}
  for offset = 1, held do
    local entry = ARGV[at + 1 + offset]
    if #redis.call('XPENDING', stream, group, entry, entry, 1, consumer) == 1 then
      redis.call('XCLAIM', stream, group, consumer, 0, entry, 'JUSTID')
    else
      lost[#lost + 1] = entry
    end
  end
  return lost
end

local function take_over(stream, cursor)
  if redis.call('XPENDING', stream, group)[1] == 0 then
    return '0-0', {}, 0
  end
  local swept = redis.call('XAUTOCLAIM', stream, group, consumer, ARGV[3], cursor, 'COUNT', ARGV[4])
  local taken = {}
  for _, entry in ipairs(swept[2]) do
    local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)
    taken[#taken + 1] = {entry[1], pending[1][4] - 1, entry[2]}
  end
  return swept[1], taken, redis.call('XPENDING', stream, group)[1]
end

for index = 1, 2 do
  local stream, cursor, held = KEYS[index], ARGV[at], tonumber(ARGV[at + 1])
  if redis.call('EXISTS', stream) == 1 then
    local lost = renew(stream, held)
    local next_cursor, taken, pending = take_over(stream, cursor)
    result[index] = {next_cursor, lost, taken, pending}
  else
    result[index] = {'0-0', {}, {}, 0}
    for offset = 1, held do
      result[index][2][offset] = ARGV[at + 1 + offset]
    end
  end
  at = at + 2 + held
end

local now = redis.call('TIME')
return {tonumber(now[1] .. string.format('%06d', now[2])), result[1], result[2]}
