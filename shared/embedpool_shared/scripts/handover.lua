#!lua flags=allow-oom
-- Put leased entries back into their lane: after a graceful stop, for a worker that died, or one job
-- per entry when a pack was delivered too often. Jobs already committed stay out; arrivals are kept.
--
-- KEYS  stream
-- ARGV  group, consumer, lane tag, deliveries to add, one job per entry (0|1), most entries,
--       entry ids … (none: all that the consumer holds; then a consumer with nothing left is deleted)
-- Returns {entries put back, entries this consumer still holds}
local stream, group, consumer, tag = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local added, is_single, most = tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
if redis.call('EXISTS', stream) == 0 then
  return {0, 0}
end

local function numbers_left(fields, part)
  local left = {}
  if fields.n == '' then
    for number = 0, tonumber(fields.c) - 1 do
      left[#left + 1] = number
    end
  else
    for number in string.gmatch(fields.n, '%d+') do
      left[#left + 1] = tonumber(number)
    end
  end
  local open = {}
  for _, number in ipairs(left) do
    if redis.call('GETBIT', part, 2 * number) == 0 then
      open[#open + 1] = number
    end
  end
  return open, #open == #left
end

local function add_again(fields, numbers, deliveries)
  return redis.call('XADD', stream, '*', 'id', fields.id, 'p', fields.p, 'c', fields.c,
    'n', numbers, 't', fields.t, 'd', deliveries)
end

local function put_back(entry)
  local found = redis.call('XRANGE', stream, entry, entry)
  redis.call('XACK', stream, group, entry)
  if #found == 0 then
    return 0
  end
  local fields = {}
  for index = 1, #found[1][2], 2 do
    fields[found[1][2][index]] = found[1][2][index + 1]
  end
  redis.call('XDEL', stream, entry)
  local open, is_untouched = numbers_left(fields, tag .. ':part:' .. fields.id)
  local again
  if is_single then
    for _, number in ipairs(open) do
      again = add_again(fields, tostring(number), fields.d)
    end
  elseif #open > 0 then
    local numbers = (is_untouched and fields.n) or table.concat(open, ',')
    again = add_again(fields, numbers, tonumber(fields.d) + added)
  end
  -- What replaces a split pack is several entries: no single id that a cancellation could delete.
  local pk = tag .. ':pk:' .. fields.id
  redis.call('SET', pk, (not is_single and again) or 'several', 'XX', 'KEEPTTL')
  return #open > 0 and 1 or 0
end

local function is_held(entry)
  return #redis.call('XPENDING', stream, group, entry, entry, 1, consumer) == 1
end

local done = 0
if #ARGV >= 7 then
  for index = 7, #ARGV do
    if is_held(ARGV[index]) then
      done = done + put_back(ARGV[index])
    end
  end
else
  for _, pending in ipairs(redis.call('XPENDING', stream, group, '-', '+', most, consumer)) do
    done = done + put_back(pending[1])
  end
end
local left = #redis.call('XPENDING', stream, group, '-', '+', 1, consumer)
if left == 0 and #ARGV < 7 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
end
return {done, left}
