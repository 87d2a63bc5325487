#!lua
-- Read some of a list of files or batches behind one of them, with all that is kept of each.
-- Whoever pages on behind a file that was deleted meanwhile goes on where it was.
--
-- KEYS  list
-- ARGV  what the names of its members begin with, member to begin behind ("" for the first),
--       how many, "REV" for the newest first ("" for the oldest)
-- Returns {member, {field, value …}} … · nil: it was never in the list
local list, prefix, after, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local is_backward = ARGV[4] == 'REV'

local function from(rank)
  if is_backward then
    return redis.call('ZRANGE', list, rank, rank + count - 1, 'REV')
  end
  return redis.call('ZRANGE', list, rank, rank + count - 1)
end

local function behind(score)
  if is_backward then
    return redis.call('ZRANGE', list, '(' .. score, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, count)
  end
  return redis.call('ZRANGE', list, '(' .. score, '+inf', 'BYSCORE', 'LIMIT', 0, count)
end

local function members()
  if after == '' then
    return from(0)
  end
  local rank = redis.call(is_backward and 'ZREVRANK' or 'ZRANK', list, after)
  if rank then
    return from(rank + 1)
  end
  local place = redis.call('HGET', prefix .. after, 'gone')
  return place and behind(place)
end

local found = members()
if not found then
  return false
end
local result = {}
for at, member in ipairs(found) do
  result[at] = {member, redis.call('HGETALL', prefix .. member)}
end
return result
