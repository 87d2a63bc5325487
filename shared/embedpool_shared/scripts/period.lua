-- When an account's budget begins anew. Included where spend is compared or added.
-- `every` is seconds as digits or "month"; a period of seconds keeps its phase however late anyone looks.

local DAY_S = 86400

local function days_before(year)
  local past = year - 1
  return 365 * (year - 1970) + math.floor(past / 4) - math.floor(past / 100) + math.floor(past / 400) - 477
end

local function next_month_s(now_s)
  local today = math.floor(now_s / DAY_S)
  local year = 1970 + math.floor(today / 366)
  while days_before(year + 1) <= today do
    year = year + 1
  end
  local day, february = days_before(year), days_before(year + 1) - days_before(year) - 337
  for _, length in ipairs({31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}) do
    day = day + length
    if day > today then
      return day * DAY_S
    end
  end
end

local function next_reset_s(every, reset_at, now_s)
  if every == 'month' then
    return next_month_s(now_s)
  end
  local length, from = tonumber(every), reset_at or now_s
  return from + (math.floor((now_s - from) / length) + 1) * length
end

-- Begins the account's next period if one is due. Returns when the one after it does (nil: never), and
-- what was spent in the period that has begun.
local function roll_over(account, now_s)
  local period = redis.call('HMGET', account, 'every', 'reset_at', 'period_cost')
  local every, reset_at, cost = period[1], tonumber(period[2] or nil), tonumber(period[3] or 0)
  if not every or (reset_at and now_s < reset_at) then
    return every and reset_at or nil, cost
  end
  local next_s = next_reset_s(every, reset_at, now_s)
  if reset_at then
    cost = 0
    redis.call('HSET', account, 'period_cost', '0')
  end
  redis.call('HSET', account, 'reset_at', string.format('%.0f', next_s))
  return next_s, cost
end
