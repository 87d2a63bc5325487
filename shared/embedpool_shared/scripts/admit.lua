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
local api, in_flight, lease_ms = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local is_reserved = limit.requests or limit.tokens or limit.cost

local now = redis.call('TIME')
local now_s, now_ms = tonumber(now[1]), now[1] * 1000 + math.floor(now[2] / 1000)
local sums, this_second, earlier, leases, reset_s
local used = {requests = 0, tokens = 0, parallel = 0, cost = 0}
local fields, due, longest_ms, reserved_cost = {}, {}, 0, 0

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
  return (this_second or read_second(window, now[1])).counts_until - now_ms
end

local function fits(need)
  return not (limit.requests and used.requests + 1 > limit.requests
    or limit.tokens and used.tokens + need.tokens > limit.tokens
    or limit.parallel and used.parallel + 1 > limit.parallel
    or limit.cost and used.cost + need.cost > limit.cost)
end

-- What a wait cannot help comes first, then the budget, then whatever takes longest.
local function verdict_on(need)
  if fits(need) then
    return 0, 0
  end
  local verdict, longest = 0, 0
  for number, kind in ipairs(KINDS) do
    if limit[kind] and need[kind] > limit[kind] then
      return -number, 0
    end
  end
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

local function count_in(need)
  used.requests, used.tokens = used.requests + 1, used.tokens + need.tokens
  used.parallel, used.cost = used.parallel + 1, used.cost + need.cost
  in_flight = in_flight + 1
  if sums then
    this_second = this_second or read_second(window, now[1])
      or {name = now[1], requests = 0, tokens = 0}
    this_second.counts_until = now_ms + COUNTS_FOR_MS
    this_second.requests = this_second.requests + 1
    this_second.tokens = this_second.tokens + need.tokens
  end
end

local function raise_cost()
  if reserved_cost > 0 then
    redis.call('HINCRBY', held, ':cost', string.format('%.0f', reserved_cost))
    reserved_cost = 0
  end
end

local function reserve(from, need)
  local id, hold_ms, at = ARGV[from], tonumber(ARGV[from + 3]), #fields
  fields[at + 1] = id
  fields[at + 2] = ARGV[from + 1] .. ' ' .. ARGV[from + 2] .. ' ' .. now[1] .. ' -1 0'
  due[at + 1] = string.format('%.0f', now_ms + hold_ms)
  due[at + 2] = id
  longest_ms = math.max(longest_ms, hold_ms)
  if reserved_cost + need.cost > 2 ^ 53 then
    raise_cost() -- a double is exact up to there
  end
  reserved_cost = reserved_cost + need.cost
end

local function write()
  if this_second then
    sums.requests, sums.tokens = used.requests, used.tokens
    sums.oldest, sums.newest = math.min(sums.oldest, now_s), math.max(sums.newest, now_s)
    write_second(window, this_second)
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
  local newest = this_second or read_second(window, string.format('%.0f', sums.newest))
  return newest and newest.counts_until - now_ms or 0
end

look()
local result = {0, 0}
for from = 8, #ARGV, 4 do
  local need = {requests = 1, tokens = tonumber(ARGV[from + 1]), parallel = 1,
    cost = tonumber(ARGV[from + 2])}
  local verdict, wait = verdict_on(need)
  if verdict == 0 then
    count_in(need)
    if is_reserved then
      reserve(from, need)
    end
  end
  local at = #result
  result[at + 1], result[at + 2] = verdict, wait
  result[at + 3], result[at + 4] = used.requests, used.tokens
end
write()
result[1], result[2] = ms_until_empty('requests'), ms_until_empty('tokens')
return result
