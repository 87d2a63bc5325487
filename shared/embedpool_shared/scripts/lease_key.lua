#!lua flags=allow-oom
-- Learn how a provider key is, and lease the requests and tokens of a call from its limits.
-- What is leased counts as used from now on, in the grain of time it was leased in, as long as a
-- call made at the lease's last moment could still be in the provider's minute: so no minute at
-- the provider sees more than the limit. A pace keeps a limit from being spent at once: beyond a
-- tenth of it (two calls at least) calls are spread, so nobody waits a minute for the next one.
-- Bulk is spread beyond a hundredth and leaves a hundredth of the minute alone, so that interactive
-- calls find room at once; once they had nine times what bulk had last, it is treated as they are.
--
-- KEYS  provider key
-- ARGV  worker, its calls in flight, slots configured, 1 if they may grow, round trip ms,
--       1 if the worker is new to this key, window ms, grain ms, rpm, tpm (0: none),
--       requests wanted (0: only learn), tokens wanted, least tokens, 1 if they are for bulk,
--       for requests and then tokens: limit, remaining (-1: not said), reset ms as the provider said,
--       then for each return: grain, requests, tokens
-- Returns {cooling for ms, retired for ms, 1 if this worker may try a retired key, slots,
--          workers, rpm, tpm, requests leased, tokens leased, grain, wait ms}
local key, me, time = KEYS[1], ARGV[1], redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local in_flight, most_slots = ARGV[2], tonumber(ARGV[3])
local may_grow, trip = ARGV[4] == '1', tonumber(ARGV[5])
local window, grain = tonumber(ARGV[7]), tonumber(ARGV[8])
local wanted, least = {tonumber(ARGV[11]), tonumber(ARGV[12])}, {1, tonumber(ARGV[13])}
local is_bulk, is_reserved = ARGV[14] == '1', false
local this, span = math.floor(now / grain), math.floor(window / grain) + 1
local known = {}

local function put(name, value)
  known[name] = value
  redis.call('HSET', key, name, string.format('%.3f', value))
end

local function read()
  local names = {'cooling_until', 'retired_until', 'slots', 'slots_at', 'oldest', 'newest',
    'said_requests', 'said_requests_until', 'held_requests', 'held_requests_until', 'pace_requests',
    'said_tokens', 'said_tokens_until', 'held_tokens', 'held_tokens_until', 'pace_tokens',
    'used_requests', 'used_tokens', 'before_bulk'}
  for at, value in ipairs(redis.call('HMGET', key, unpack(names))) do
    known[names[at]] = tonumber(value)
  end
end

-- What was leased in these grains, oldest first: {grain, requests, tokens} …
local function leased_in(first, last)
  local names, found = {}, {}
  for entry = first, last do
    names[#names + 1] = string.format('w:%.0f', entry)
  end
  if #names > 0 then
    for at, value in ipairs(redis.call('HMGET', key, unpack(names))) do
      if value then
        local requests, tokens = string.match(value, '^(%d+) (%d+)$')
        found[#found + 1] = {first + at - 1, tonumber(requests), tonumber(tokens)}
      end
    end
  end
  return found
end

local function used(requests, tokens)
  put('used_requests', (known.used_requests or 0) + requests)
  put('used_tokens', (known.used_tokens or 0) + tokens)
end

local function count(entry, requests, tokens)
  local before = leased_in(entry, entry)[1] or {entry, 0, 0}
  local after = {math.max(0, before[2] + requests), math.max(0, before[3] + tokens)}
  redis.call('HSET', key, string.format('w:%.0f', entry),
    string.format('%.0f %.0f', after[1], after[2]))
  used(after[1] - before[2], after[2] - before[3])
  put('oldest', math.min(known.oldest or entry, entry))
  put('newest', math.max(known.newest or entry, entry))
end

-- Forget what no minute can hold any more; all of it if the clock was set back by more than that.
local function forget()
  if not known.oldest then
    return
  end
  local last = known.newest > this + span and known.newest or math.min(this - span, known.newest)
  for first = known.oldest, last, 500 do
    for _, entry in ipairs(leased_in(first, math.min(first + 499, last))) do
      redis.call('HDEL', key, string.format('w:%.0f', entry[1]))
      used(-entry[2], -entry[3])
    end
  end
  if last >= known.oldest then
    put('oldest', last + 1)
  end
  if known.oldest > known.newest then
    redis.call('HDEL', key, 'oldest', 'newest')
    known.oldest, known.newest = nil, nil
  end
end

-- One of the two limits, 1 requests and 2 tokens: what it is, what is used of it, what holds it.
local function limit_of(which, name)
  local limit, said, remaining, reset = tonumber(ARGV[8 + which]), 0, -1, 0
  if limit == 0 then
    return nil
  end
  local at = 12 + 3 * which
  said, remaining, reset = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if said > 0 then
    put('said_' .. name, said)
    put('said_' .. name .. '_until', now + 600000)
  end
  if (known['said_' .. name .. '_until'] or 0) > now then
    limit = math.min(limit, known['said_' .. name])
  end
  local taken = known['used_' .. name] or 0
  if remaining >= 0 then
    put('held_' .. name, math.max(0, limit - taken - remaining))
    put('held_' .. name .. '_until', now + reset)
  end
  local held_until = known['held_' .. name .. '_until'] or 0
  local held = held_until > now and known['held_' .. name] or 0
  local pace = math.max(known['pace_' .. name] or 0, now)
  if pace > now + 2 * window then
    pace = now -- the clock was set back
  end
  local burst = which == 1 and math.max(window / 10, window / limit) or window / 10
  if is_reserved then
    burst = window / 100
  end
  return {which = which, name = name, limit = limit, room = limit - taken - held, burst = burst,
    cost = window / limit, pace = pace, held = held, held_until = held_until}
end

-- How long until the oldest entries have left the minute that `needed` has no room for now, or
-- until the provider holds nothing back any more, whatever makes room first.
local function room_in(bound, needed)
  local missing, held, held_for = needed - bound.room, bound.held, bound.held_until - now
  if missing <= 0 then
    return 0
  end
  for first = known.oldest or 1, known.newest or 0, 32 do
    for _, entry in ipairs(leased_in(first, math.min(first + 31, known.newest))) do
      local left_in = (entry[1] + 1) * grain + window - now
      if held > 0 and held_for <= left_in then
        missing, held = missing - held, 0
        if missing <= 0 then
          return math.max(1, held_for)
        end
      end
      missing = missing - entry[1 + bound.which]
      if missing <= 0 then
        return math.max(1, left_in)
      end
    end
  end
  return math.max(1, held_for)
end

local function reserve_of(bound, needed)
  return is_reserved and math.min(math.floor(bound.limit / 100 + 0.5), bound.limit - needed) or 0
end

local function wait_for(bound, needed, wished)
  -- A large call of bulk's must not be what an interactive one would then have to wait for.
  local burst = is_reserved and math.max(0, bound.burst - wished * bound.cost) or bound.burst
  local room = room_in(bound, needed + reserve_of(bound, needed))
  return math.max(math.ceil(bound.pace - now - burst), room)
end

-- What comes back was never sent and neither counts nor delays; tokens beyond the lease do.
local function take_back(bounds)
  for at = 21, #ARGV, 3 do
    local entry, given = tonumber(ARGV[at]), {tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
    if #leased_in(entry, entry) == 1 then
      count(entry, -given[1], -given[2])
    elseif given[2] < 0 then
      count(this, 0, -given[2])
    end
    for _, bound in ipairs(bounds) do
      if bound then
        if bound.held > 0 then -- the provider never counted it either: it makes no room there
          bound.held = math.max(0, bound.held + given[bound.which])
          put('held_' .. bound.name, bound.held)
        end
        bound.pace = bound.pace - given[bound.which] * bound.cost
        bound.room = bound.limit - (known['used_' .. bound.name] or 0) - bound.held
        put('pace_' .. bound.name, bound.pace)
      end
    end
  end
end

-- Note how much of a minute interactive calls may still have before bulk is treated as they are.
local function take_turn(cost)
  if is_bulk then
    put('before_bulk', 9 * cost)
  elseif (known.before_bulk or 0) > 0 then
    put('before_bulk', known.before_bulk - cost)
  end
end

local function lease(requests, tokens)
  local wait = 0
  if tokens then
    -- No call takes more than a tenth of a minute's tokens, none less than a hundredth if it can.
    wanted[2] = math.min(wanted[2], math.max(least[2], math.floor(tokens.limit / 10)))
    local few = math.min(wanted[2], math.ceil(tokens.limit / 100))
    least[2] = math.min(math.max(least[2], few), tokens.limit)
    wait = wait_for(tokens, least[2], math.max(least[2], wanted[2]))
  end
  wait = math.max(wait, requests and wait_for(requests, 1, 1) or 0)
  if wait > 0 then
    return 0, 0, wait
  end
  local calls, each = 1, 0
  if tokens then
    local room = tokens.room - reserve_of(tokens, least[2])
    each = math.max(least[2], math.min(wanted[2], room))
  end
  local spare = math.max(3, math.floor((requests or {limit = 0}).limit / 600))
  local function is_easy(bound, amount)
    return not bound or (bound.room - amount >= bound.limit / 2
      and bound.pace + amount * bound.cost <= now + bound.burst)
  end
  if is_easy(requests, 1 + spare) and is_easy(tokens, (1 + spare) * each) then
    calls = 1 + spare
  end
  count(this, calls, calls * each)
  take_turn(math.max(requests and calls * requests.cost or 0,
    tokens and calls * each * tokens.cost or 0))
  if requests then
    put('pace_requests', math.max(requests.pace, now) + calls * requests.cost)
  end
  if tokens then
    put('pace_tokens', math.max(tokens.pace, now) + calls * each * tokens.cost)
  end
  return calls, calls * each, 0
end

local function slots()
  local granted = math.min(known.slots or most_slots, most_slots)
  if may_grow and granted < most_slots and now - (known.slots_at or 0) >= trip then
    granted = granted + 1
    put('slots', granted)
    put('slots_at', now)
  end
  return granted
end

local function retired()
  local left, may_try = (known.retired_until or 0) - now, 0
  if known.retired_until and (left <= 0 or ARGV[6] == '1') then
    may_try, left = 1, 30000
    put('retired_until', now + left)
  end
  return math.max(0, left), may_try
end

-- Note that this worker uses the key, and count who else does.
local function workers()
  local listed, others = {string.format('%.0f %d %s;', now + 3000, in_flight, me)}, 0
  local before = redis.call('HGET', key, 'workers') or ''
  for until_ms, calls, worker in string.gmatch(before, '(%d+) (%d+) ([^;]+);') do
    if tonumber(until_ms) > now and worker ~= me then
      listed[#listed + 1] = until_ms .. ' ' .. calls .. ' ' .. worker .. ';'
      others = others + 1
    end
  end
  redis.call('HSET', key, 'workers', table.concat(listed))
  return others + 1
end

read()
forget()
is_reserved = is_bulk and (known.before_bulk or 0) > 0
local requests, tokens = limit_of(1, 'requests'), limit_of(2, 'tokens')
take_back({requests or false, tokens or false})
local leased, leased_tokens, wait = 0, 0, 0
if wanted[1] > 0 and (requests or tokens) then
  leased, leased_tokens, wait = lease(requests, tokens)
end
local retired_for, may_try = retired()
local cooling_for = math.max(0, (known.cooling_until or 0) - now)
local rpm, tpm = requests and requests.limit or 0, tokens and tokens.limit or 0
redis.call('HSET', key, 'slots_most', most_slots, 'rpm', rpm, 'tpm', tpm)
redis.call('PEXPIRE', key, string.format('%.0f', math.max(900000, cooling_for + 60000)))
return {math.ceil(cooling_for), math.ceil(retired_for), may_try, slots(), workers(),
  rpm, tpm, leased, leased_tokens, this, wait}
