#!lua flags=allow-oom
-- Add a range of one lane's ledger to an account, once: what was spent, and the reservations it settles.
--
-- KEYS  account, window, held
-- ARGV  lane, last ledger id of the range, requests, cost in pico-dollars, used, paid, saved, waste,
--       ms after which an account that hears of no more is forgotten (0: never), settlements, then for each:
--       request id, its jobs that ended in this range, its jobs in all, tokens used, cost in pico-dollars
-- Returns 1 · 0 the account has this range already, nothing was done

-- include period
-- include minute
-- include holds
local account, window, held = KEYS[1], KEYS[2], KEYS[3]
local lane, last = 'lane:' .. ARGV[1], ARGV[2]
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

local function is_above(id, other)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_sequence = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(sequence) > tonumber(other_sequence)
end

local function add_spend()
  roll_over(account, tonumber(now[1]))
  local sums = {'requests', 'cost', 'used', 'paid', 'saved', 'waste'}
  for index, field in ipairs(sums) do
    redis.call('HINCRBY', account, field, ARGV[2 + index])
  end
  redis.call('HINCRBY', account, 'period_cost', ARGV[4])
  redis.call('HSET', account, lane, last)
  if ARGV[9] ~= '0' then
    redis.call('PEXPIRE', account, ARGV[9])
  end
end

-- Takes from a reservation what has become spend.
local function lower(one, spent)
  local left = math.max(0, one.cost - spent)
  lower_cost(held, one.cost - left)
  one.cost = left
end

local function settle()
  local ids, by_id = {}, {}
  for at = 11, #ARGV, 5 do
    ids[#ids + 1] = ARGV[at]
  end
  local found = reservations(held, ids)
  for _, one in ipairs(found) do
    by_id[one.id] = one
  end
  for at = 11, #ARGV, 5 do
    local one = by_id[ARGV[at]]
    if one then
      one.left = (one.left < 0 and tonumber(ARGV[at + 2]) or one.left) - ARGV[at + 1]
      one.used = one.used + ARGV[at + 3]
      lower(one, tonumber(ARGV[at + 4]))
    end
  end
  return found
end

local function write(settled)
  local gone, fields, changes = {}, {}, {}
  for _, one in ipairs(settled) do
    if one.left <= 0 then
      gone[#gone + 1] = one
      note_change(changes, one.second, 0, one.used - one.tokens)
    else
      fields[#fields + 1] = one.id
      fields[#fields + 1] = reservation_text(one)
    end
  end
  in_chunks(fields, CHUNK, function(from, to)
    redis.call('HSET', held, unpack(fields, from, to))
  end)
  correct_minute(window, changes)
  drop(held, gone)
end

if not is_above(last, redis.call('HGET', account, lane) or '0-0') then
  return 0
end
drop_lapsed(held, now_ms)
add_spend()
write(settle())
return 1
