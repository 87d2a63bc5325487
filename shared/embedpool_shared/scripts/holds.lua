-- What an account has promised and not yet seen spent. In the hash `held` a field per reservation, one
-- for all requests that a call let in: "tokens cost second jobs requests returned"; of tokens, cost and
-- jobs what is neither settled nor given back, and the numbers of the requests that were ("3,17,").
-- `:cost`, the sum of their costs; `:leases`, "api in-flight until-ms" for each api process with requests
-- in flight. In the sorted set `<held>:due`, when each reservation lapses. Included where any of it is
-- touched.

local CHUNK = 500 -- arguments of one command; unpack takes no more than some thousands
local SWEEP = 100 -- lapsed reservations dropped by one call
local MORE_MS = 10000

local function due_of(held)
  return held .. ':due'
end

local function in_chunks(list, size, act)
  for from = 1, #list, size do
    act(from, math.min(from + size - 1, #list))
  end
end

-- Keeps a name for so long; some more, so that the next call most often need not.
local function keep_for(name, ms)
  if redis.call('PTTL', name) < ms then
    redis.call('PEXPIRE', name, string.format('%.0f', ms + MORE_MS))
  end
end

-- Returns the reservations with these ids, by id; unknown ones are left out.
local function reservations(held, ids)
  local found = {}
  in_chunks(ids, CHUNK, function(from, to)
    for offset, text in ipairs(redis.call('HMGET', held, unpack(ids, from, to))) do
      if text then
        local id = ids[from + offset - 1]
        local tokens, cost, second, jobs, requests, returned =
          string.match(text, '^(%d+) (%d+) (%d+) (-?%d+) (%d+) ?(%S*)$')
        found[id] = {id = id, tokens = tonumber(tokens), cost = tonumber(cost), second = second,
          jobs = tonumber(jobs), requests = tonumber(requests), returned = returned}
      end
    end
  end)
  return found
end

local function write_reservations(held, list)
  local fields = {}
  for _, one in ipairs(list) do
    fields[#fields + 1] = one.id
    fields[#fields + 1] = string.format('%.0f %.0f %s %.0f %.0f %s', one.tokens, one.cost, one.second,
      one.jobs, one.requests, one.returned)
  end
  in_chunks(fields, CHUNK, function(from, to)
    redis.call('HSET', held, unpack(fields, from, to))
  end)
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

-- Forgets these reservations, and their costs; without any left nothing of them remains.
local function drop(held, gone)
  local ids = {}
  for index, one in ipairs(gone) do
    lower_cost(held, one.cost)
    ids[index] = one.id
  end
  write_lowered(held)
  in_chunks(ids, CHUNK, function(from, to)
    redis.call('HDEL', held, unpack(ids, from, to))
    redis.call('ZREM', due_of(held), unpack(ids, from, to))
  end)
  if #ids > 0 and redis.call('EXISTS', due_of(held)) == 0 then
    redis.call('HDEL', held, ':cost')
  end
end

-- Takes so many jobs, and what was reserved for them, out of a reservation.
local function take(held, one, jobs, tokens, cost)
  cost = math.min(cost, one.cost)
  lower_cost(held, cost)
  one.jobs, one.tokens, one.cost = one.jobs - jobs, math.max(0, one.tokens - tokens), one.cost - cost
end

-- Writes what is left of reservations after something was taken out; those without jobs are dropped.
local function keep_rest(held, by_id)
  local kept, gone = {}, {}
  for _, one in pairs(by_id) do
    local list = one.jobs > 0 and kept or gone
    list[#list + 1] = one
  end
  write_reservations(held, kept)
  drop(held, gone)
end

-- Forgets what lapsed. Tells whether anything did.
local function drop_lapsed(held, now_ms)
  local ids = redis.call('ZRANGEBYSCORE', due_of(held), '-inf', string.format('%.0f', now_ms),
    'LIMIT', 0, SWEEP)
  if #ids > 0 then
    local lapsed = {}
    for _, one in pairs(reservations(held, ids)) do
      lapsed[#lapsed + 1] = one
    end
    drop(held, lapsed)
  end
  return #ids > 0
end

-- Reads `:leases`. Returns how many requests other api processes have in flight, and their leases.
local function others_in_flight(text, api, now_ms)
  local others, leases = 0, {}
  for owner, count, ends in string.gmatch(text or '', '(%S+) (%d+) (%d+)') do
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
end
