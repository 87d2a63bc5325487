#!lua
-- Decide which of these requests an account's limits let in, one after the other; count and reserve those.
-- Without allow-oom on purpose: like the queue, the gate closes when Redis is full.
--
-- KEYS  account, window, held
-- ARGV  requests, tokens per minute, parallel requests, budget in pico-dollars ("" for no limit),
--       api id, its requests in flight, lease ms, the reservation for those let in, ms until it lapses,
--       tokens, cost in pico-dollars and jobs of all requests, then of each request by itself
-- Returns {ms until no request counts any more, ms until no token does,
--          requests and tokens counted so far, then for each request that is not let in:
--          its place, from 0; why; ms until it would be (0: nobody knows)}
--   why  1 requests · 2 tokens · 3 parallel · 4 budget: this limit is reached for now
--      · -1 … -4 the request alone is more than this limit

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
local reservation, hold_ms = ARGV[8], tonumber(ARGV[9])
local ALL, STEP = 10, 3 -- where the sums over all requests are; each request has as many

local now = redis.call('TIME')
local now_s, now_ms = tonumber(now[1]), now[1] * 1000 + math.floor(now[2] / 1000)
local sums, this_second, earlier, leases, reset_s
local used = {requests = 0, tokens = 0, parallel = 0, cost = 0}
local admitted = {requests = 0, tokens = 0, cost = 0, jobs = 0}
local refused = {}

local function look()
  if limit.requests or limit.tokens then
    sums, this_second = last_minute(window, now[1], now_s, now_ms)
    used.requests, used.tokens = sums.requests, sums.tokens
  end
  local promised = redis.call('HMGET', held, ':cost', ':leases')
  if limit.parallel then
    local others
    others, leases = others_in_flight(promised[2], api, now_ms)
    used.parallel = others + in_flight
  end
  if limit.cost then
    local spent
    reset_s, spent = roll_over(account, now_s)
    used.cost = spent + (promised[1] or 0)
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
  return this_second.counts_until
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

local function is_room_for(requests, tokens, cost)
  return used.requests + requests <= most.requests and used.tokens + tokens <= most.tokens
    and used.parallel + requests <= most.parallel and used.cost + cost <= most.cost
end

local function let_in(requests, tokens, cost, jobs)
  used.requests, used.tokens = used.requests + requests, used.tokens + tokens
  used.parallel, used.cost = used.parallel + requests, used.cost + cost
  admitted.requests, admitted.tokens = admitted.requests + requests, admitted.tokens + tokens
  admitted.cost, admitted.jobs = admitted.cost + cost, admitted.jobs + jobs
end

local function decide_one_by_one(requests)
  for place = 0, requests - 1 do
    local from = ALL + STEP * (place + 1)
    local tokens, cost = tonumber(ARGV[from]), tonumber(ARGV[from + 1])
    if is_room_for(1, tokens, cost) then
      let_in(1, tokens, cost, tonumber(ARGV[from + 2]))
    else
      local at, why, wait = #refused,
        verdict_on({requests = 1, tokens = tokens, parallel = 1, cost = cost})
      refused[at + 1], refused[at + 2], refused[at + 3] = place, why, wait
    end
  end
end

local function decide()
  local requests = (#ARGV - ALL + 1) / STEP - 1
  local tokens, cost = tonumber(ARGV[ALL]), tonumber(ARGV[ALL + 1])
  if not is_room_for(requests, tokens, cost) and drop_lapsed(held, now_ms) then
    look()
  end
  if is_room_for(requests, tokens, cost) then
    let_in(requests, tokens, cost, tonumber(ARGV[ALL + 2]))
  else
    decide_one_by_one(requests)
  end
end

local function reserve()
  write_reservations(held, {{id = reservation, tokens = admitted.tokens, cost = admitted.cost,
    second = now[1], jobs = admitted.jobs, requests = admitted.requests, returned = ''}})
  redis.call('ZADD', due_of(held), string.format('%.0f', now_ms + hold_ms), reservation)
  if admitted.cost > 0 then
    redis.call('HINCRBY', held, ':cost', string.format('%.0f', admitted.cost))
  end
  keep_for(due_of(held), hold_ms)
end

local function write()
  local kept_ms = limit.parallel and lease_ms or 0
  if admitted.requests > 0 and sums then
    count_in(window, sums, this_second, now[1], admitted.requests, admitted.tokens, now_s, now_ms)
  end
  if admitted.requests > 0 and (sums or limit.cost) then
    reserve()
    kept_ms = math.max(kept_ms, hold_ms)
  end
  if limit.parallel then
    write_lease(held, leases, api, in_flight + admitted.requests, now_ms, lease_ms)
  end
  if kept_ms > 0 then
    keep_for(held, kept_ms)
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
local requests_before, tokens_before = used.requests, used.tokens
decide()
write()
return {ms_until_empty('requests'), ms_until_empty('tokens'), requests_before, tokens_before,
  unpack(refused)}
