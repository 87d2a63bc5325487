#!lua flags=allow-oom
-- Remember what refusals taught of providers' caps, and say all that is remembered.
-- A field is "named:…" or "guessed:…"; its value is "<number>:<learned at, ms>". A named number is
-- replaced by a newer one; a guess by a lower one, and it doubles with every period it has lived.
--
-- KEYS  caps
-- ARGV  kept for ms, a guess doubles after ms; then for each cap: field, number, age ms
-- Returns {field, number, age ms …}, numbers as they are believed by now
local keep_ms, period_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

local function believed(field, value)
  local number, at_ms = string.match(value, '^(%d+):(%d+)$')
  if not number then
    return nil
  end
  number, at_ms = tonumber(number), tonumber(at_ms)
  if now_ms - at_ms >= keep_ms then
    return nil
  end
  if string.sub(field, 1, 8) == 'guessed:' and now_ms > at_ms then
    local periods = math.floor((now_ms - at_ms) / period_ms)
    number = math.min(number * 2 ^ periods, 2 ^ 40)
  end
  return number, at_ms
end

for index = 3, #ARGV, 3 do
  local field, number = ARGV[index], tonumber(ARGV[index + 1])
  local at_ms = now_ms - tonumber(ARGV[index + 2])
  local fresh = string.format('%.0f:%.0f', number, at_ms)
  local value = redis.call('HGET', KEYS[1], field)
  local known, known_at_ms
  if value then
    known, known_at_ms = believed(field, value)
  end
  local wins = not known
  if known and string.sub(field, 1, 8) == 'guessed:' then
    wins = (believed(field, fresh) or known) < known
  elseif known then
    wins = at_ms > known_at_ms
  end
  if wins and believed(field, fresh) then
    redis.call('HSET', KEYS[1], field, fresh)
    redis.call('PEXPIRE', KEYS[1], keep_ms)
  end
end

local result = {}
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do
  local field = fields[index]
  local number, at_ms = believed(field, fields[index + 1])
  if number then
    local lived_ms = now_ms - at_ms
    if string.sub(field, 1, 8) == 'guessed:' and lived_ms > 0 then
      lived_ms = lived_ms % period_ms
    end
    result[#result + 1] = field
    result[#result + 1] = string.format('%.0f', number)
    result[#result + 1] = string.format('%.0f', math.max(0, lived_ms))
  else
    redis.call('HDEL', KEYS[1], field)
  end
end
return result
