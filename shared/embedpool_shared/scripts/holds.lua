-- What an account has promised and not yet seen spent. In the hash `held` a field per request,
-- "tokens cost second jobs-left used" (jobs-left is -1 until the first of them ended); `:cost`, the sum
-- of their costs; `:leases`, "api in-flight until-ms" for each api process with requests in flight. In
-- the sorted set `<held>:due`, when each reservation lapses. Included where any of it is touched.

local CHUNK = 500 -- arguments of one command; unpack takes no more than some thousands
local SWEEP = 100 -- lapsed reservations dropped by one call

local function due_of(held)
  return held .. ':due'
end

local function in_chunks(list, size, act)
  for from = 1, #list, size do
    act(from, math.min(from + size - 1, #list))
  end
end

-- Both names live as long as what lapses last, so neither is ever without the other.
local function keep_for(held, ms)
  local longest = string.format('%.0f', math.max(ms, redis.call('PTTL', held)))
  redis.call('PEXPIRE', held, longest)
  redis.call('PEXPIRE', due_of(held), longest)
end

-- Returns the reservations of these requests: {id, tokens, cost, second, left, used}, each once.
local function reservations(held, ids)
  local found, is_known = {}, {}
  in_chunks(ids, CHUNK, function(from, to)
    for offset, text in ipairs(redis.call('HMGET', held, unpack(ids, from, to))) do
      local id = ids[from + offset - 1]
      if text and not is_known[id] then
        is_known[id] = true
        local tokens, cost, second, left, used =
          string.match(text, '^(%d+) (%d+) (%d+) (-?%d+) (%d+)$')
        found[#found + 1] = {id = id, tokens = tonumber(tokens), cost = tonumber(cost),
          second = second, left = tonumber(left), used = tonumber(used)}
      end
    end
  end)
  return found
end

local function reservation_text(one)
  return string.format('%.0f %.0f %s %.0f %.0f', one.tokens, one.cost, one.second, one.left, one.used)
end

-- Costs leave the sum together, as far as a double is exact; `drop` writes what is not written yet.
local lowered = 0

local function write_lowered(held)
  if lowered > 0 then
    redis.call('HINCRBY', held, ':cost', string.format('-%.0f', lowered))
    lowered = 0
  end
end

local function lower_cost(held, cost)
  if lowered + cost > 2 ^ 53 then
    write_lowered(held)
  end
  lowered = lowered + cost
end

-- Forgets reservations whose costs were lowered already; without any left nothing of them remains.
local function forget(held, ids)
  write_lowered(held)
  in_chunks(ids, CHUNK, function(from, to)
    redis.call('HDEL', held, unpack(ids, from, to))
    redis.call('ZREM', due_of(held), unpack(ids, from, to))
  end)
  if #ids > 0 and redis.call('EXISTS', due_of(held)) == 0 then
    redis.call('HDEL', held, ':cost')
  end
end

-- Forgets these reservations, and their costs.
local function drop(held, gone)
  local ids = {}
  for index, one in ipairs(gone) do
    lower_cost(held, one.cost)
    ids[index] = one.id
  end
  forget(held, ids)
end

local function drop_lapsed(held, now_ms)
  local ids = redis.call('ZRANGEBYSCORE', due_of(held), '-inf', string.format('%.0f', now_ms),
    'LIMIT', 0, SWEEP)
  if #ids > 0 then
    drop(held, reservations(held, ids))
  end
end

-- Returns how many requests other api processes have in flight, and their leases.
local function others_in_flight(held, api, now_ms)
  local others, leases = 0, {}
  for owner, count, ends in string.gmatch(redis.call('HGET', held, ':leases') or '',
      '(%S+) (%d+) (%d+)') do
    if owner ~= api and tonumber(ends) > now_ms then
      others = others + count
      leases[#leases + 1] = owner .. ' ' .. count .. ' ' .. ends
    end
  end
  return others, leases
end

-- States how many requests this api process has in flight; it has to say so again before `ms` are over.
local function write_lease(held, leases, api, count, now_ms, ms)
  if count > 0 then
    leases[#leases + 1] = string.format('%s %.0f %.0f', api, count, now_ms + ms)
  end
  if #leases == 0 then
    redis.call('HDEL', held, ':leases')
    return
  end
  redis.call('HSET', held, ':leases', table.concat(leases, ' '))
  keep_for(held, ms)
end
