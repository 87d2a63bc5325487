#!lua
-- Decide which of these requests an account's limits let in, one after the other; count and reserve those.
-- Without allow-oom on purpose: like the queue, the gate closes when Redis is full.
--
-- KEYS  account, window, held
-- ARGV  requests, tokens per minute, parallel requests, budget in pico-dollars ("" for no limit),
--       api id, its requests in flight, lease ms, then for each request:
--       id, tokens, cost in pico-dollars, ms until its reservation lapses
-- Returns {ms until no request counts any more, ms until no token does, then for each request:
--          verdict, ms until it would be let in (0: nobody knows), requests counted, tokens counted}
--   verdict  0 let in · 1 requests · 2 tokens · 3 parallel · 4 budget: this limit is reached for now
--          · -1 … -4 the request alone is more than this limit

-- include period
-- include minute
-- include holds
local account, window, held = KEYS[1], KEYS[2], KEYS[3]
local KINDS = {'requests', 'tokens', 'parallel', 'cost'}
local limit = {requests = tonumber(ARGV[1]), tokens = tonumber(ARGV[2]),
  parallel = tonumber(ARGV[3]), cost = tonumber(ARGV[4])}
local most = {requests = limit.requests or math.huge, tokens = limit.tokens or math.huge,
  parallel = limit.parallel or math.huge, cost = limit.cost or math.huge}
local api, in_flight, lease_ms = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local is_reserved = limit.requests or limit.tokens or limit.cost

local now = redis.call('TIME')
local now_s, now_ms = tonumber(now[1]), now[1] * 1000 + math.floor(now[2] / 1000)
local sums, earlier, leases, reset_s
local used = {requests = 0, tokens = 0, parallel = 0, cost = 0}
local admitted = {requests = 0, tokens = 0}
local fields, due, longest_ms, reserved_cost = {}, {}, 0, 0
local held_text = ' ' .. now[1] .. ' -1 0'
local hold, hold_ms, due_at -- of the request before; most ask for the same

local function look()
  drop_lapsed(held, now_ms)
  if limit.requests or limit.tokens then
    sums = last_minute(window, now_s, now_ms)
    used.requests, used.tokens = sums.requests, sums.tokens
  end
  if limit.parallel then
    local others
    others, leases = others_in_flight(held, api, now_ms)
    used.parallel = others + in_flight
  end
  if limit.cost then
    reset_s = roll_over(account, now_s)
    used.cost = (redis.call('HGET', account, 'period_cost') or 0)
      + (redis.call('HGET', held, ':cost') or 0)
  end
end

-- Returns the seconds before this one that count, the first to lapse first.
local function read_earlier()
  local found = {}
  for second = sums.oldest, sums.newest do
    if second ~= now_s then
      found[#found + 1] = read_second(window, string.format('%.0f', second)) or nil
    end
  end
  return found
end

-- Until when this second counts.
local function counts_until()
  if admitted.requests > 0 then
    return now_ms + COUNTS_FOR_MS
  end
  return read_second(window, now[1]).counts_until
end

local function wait_ms(kind, need)
  if kind == 'cost' then
    return reset_s and reset_s * 1000 - now_ms or 0
  elseif kind == 'parallel' then
    return 0
  end
  earlier = earlier or read_earlier()
  local excess = used[kind] + need - limit[kind]
  for _, second in ipairs(earlier) do
    excess = excess - second[kind]
    if excess <= 0 then
      return second.counts_until - now_ms
    end
  end
  return counts_until() - now_ms
end

-- What a wait cannot help comes first, then the budget, then whatever takes longest.
local function verdict_on(need)
  for number, kind in ipairs(KINDS) do
    if limit[kind] and need[kind] > limit[kind] then
      return -number, 0
    end
  end
  local verdict, longest = 0, 0
  for number, kind in ipairs(KINDS) do
    if limit[kind] and used[kind] + need[kind] > limit[kind] then
      local wait = wait_ms(kind, need[kind])
      if verdict == 0 or kind == 'cost' or wait > longest then
        verdict, longest = number, wait
      end
    end
  end
  return verdict, longest
end

local function raise_cost()
  if reserved_cost > 0 then
    redis.call('HINCRBY', held, ':cost', string.format('%.0f', reserved_cost))
    reserved_cost = 0
  end
end

local function reserve(from, cost)
  local id, at = ARGV[from], #fields
  if ARGV[from + 3] ~= hold then
    hold, hold_ms = ARGV[from + 3], tonumber(ARGV[from + 3])
    due_at = string.format('%.0f', now_ms + hold_ms)
    longest_ms = math.max(longest_ms, hold_ms)
  end
  fields[at + 1] = id
  fields[at + 2] = ARGV[from + 1] .. ' ' .. ARGV[from + 2] .. held_text
  due[at + 1] = due_at
  due[at + 2] = id
  if reserved_cost + cost > 2 ^ 53 then
    raise_cost() -- a double is exact up to there
  end
  reserved_cost = reserved_cost + cost
end

local function write()
  if sums and admitted.requests > 0 then
    local second = read_second(window, now[1]) or {name = now[1], requests = 0, tokens = 0}
    second.requests = second.requests + admitted.requests
    second.tokens = second.tokens + admitted.tokens
    second.counts_until = now_ms + COUNTS_FOR_MS
    sums.requests, sums.tokens = used.requests, used.tokens
    sums.oldest, sums.newest = math.min(sums.oldest, now_s), math.max(sums.newest, now_s)
    write_second(window, second)
    write_sums(window, sums)
    redis.call('PEXPIRE', window, COUNTS_FOR_MS)
  end
  raise_cost()
  if #fields > 0 then
    in_chunks(fields, CHUNK, function(from, to)
      redis.call('HSET', held, unpack(fields, from, to))
      redis.call('ZADD', due_of(held), unpack(due, from, to))
    end)
    keep_for(held, longest_ms)
  end
  if limit.parallel then
    write_lease(held, leases, api, in_flight, now_ms, lease_ms)
  end
end

local function ms_until_empty(kind)
  if not sums or used[kind] <= 0 then
    return 0
  end
  if admitted.requests > 0 and sums.newest <= now_s then
    return COUNTS_FOR_MS
  end
  local newest = read_second(window, string.format('%.0f', sums.newest))
  return newest and newest.counts_until - now_ms or 0
end

look()
local result = {0, 0}
for from = 8, #ARGV, 4 do
  local tokens, cost = tonumber(ARGV[from + 1]), tonumber(ARGV[from + 2])
  local verdict, wait = 0, 0
  if used.requests < most.requests and used.tokens + tokens <= most.tokens
      and used.parallel < most.parallel and used.cost + cost <= most.cost then
    used.requests, used.tokens = used.requests + 1, used.tokens + tokens
    used.parallel, used.cost = used.parallel + 1, used.cost + cost
    admitted.requests, admitted.tokens = admitted.requests + 1, admitted.tokens + tokens
    in_flight = in_flight + 1
    if is_reserved then
      reserve(from, cost)
    end
  else
    verdict, wait = verdict_on({requests = 1, tokens = tokens, parallel = 1, cost = cost})
  end
  local at = #result
  result[at + 1], result[at + 2] = verdict, wait
  result[at + 3], result[at + 4] = used.requests, used.tokens
end
write()
result[1], result[2] = ms_until_empty('requests'), ms_until_empty('tokens')
return result
