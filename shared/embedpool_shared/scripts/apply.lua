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

-- Settles these reservations: what has become spend leaves their cost, what is complete is dropped.
local function settle(from, to)
  local ids, gone, kept, changes = {}, {}, {}, {}
  for at = from, to, 5 do
    ids[#ids + 1] = ARGV[at]
  end
  for index, text in ipairs(#ids > 0 and redis.call('HMGET', held, unpack(ids)) or {}) do
    if text then
      local at = from + 5 * (index - 1)
      local tokens, cost, second, left, used =
        string.match(text, '^(%d+) (%d+) (%d+) (-?%d+) (%d+)$')
      left = (left == '-1' and ARGV[at + 2] or left) - ARGV[at + 1]
      used, cost = used + ARGV[at + 3], tonumber(cost)
      if left <= 0 then
        lower_cost(held, cost)
        gone[#gone + 1] = ids[index]
        note_change(changes, second, 0, used - tokens)
      else
        local rest = math.max(0, cost - ARGV[at + 4])
        lower_cost(held, cost - rest)
        kept[#kept + 1] = ids[index]
        kept[#kept + 1] = reservation_text({tokens = tokens, cost = rest, second = second,
          left = left, used = used})
      end
    end
  end
  if #kept > 0 then
    redis.call('HSET', held, unpack(kept))
  end
  correct_minute(window, changes)
  forget(held, gone)
end

if not is_above(last, redis.call('HGET', account, lane) or '0-0') then
  return 0
end
drop_lapsed(held, now_ms)
add_spend()
for from = 11, #ARGV, 5 * CHUNK do
  settle(from, math.min(from + 5 * CHUNK - 1, #ARGV))
end
return 1
