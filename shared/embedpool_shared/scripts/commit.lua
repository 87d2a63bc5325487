#!lua flags=allow-oom
-- The commit: acknowledgement, replies, ledger records and depth of one batch, together or not at all.
-- Fenced per pack by its pending entry and, once a pack was split, per job by its committed bit, so
-- a zombie's late commit changes nothing. Repeating a commit under the same id changes nothing either:
-- what tells is the pack's pk, which keeps the entry's id where its first reader ended it at one blow.
--
-- KEYS  depth, ledger, then for each pack: stream, part, pk, inbox
-- ARGV  group, commit id, ledger bound, packs, then for each pack
--   w, entry, items, bytes, tokens, replies, records              every job the entry holds,
--   h, entry, items, bytes, tokens, replies, records              … which others had before
--   s, entry, numbers of the entry ("0,1,5"), jobs, then for each job:
--      number, items, bytes, tokens, reply, record                some of them, or a pack split before
-- Returns {Redis time µs, for each pack: {1, numbers left out …} done
--                                      · {0} not pending any more · {2} was split: send it as s}
local depth, ledger = KEYS[1], KEYS[2]
local group, commit_id, bound, packs = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local at, results = 5, {}
local items, bytes, tokens = 0, 0, 0

local function has_committed_jobs(bits)
  for index = 1, bits and #bits or 0 do
    if bit.band(string.byte(bits, index), 0xAA) ~= 0 then
      return true
    end
  end
  return false
end

local function deliver(inbox, reply, record)
  redis.call('XADD', inbox, 'NOMKSTREAM', '*', 'r', reply)
  redis.call('XADD', ledger, 'MAXLEN', '~', bound, '*', 'r', record)
end

local function count(from)
  items, bytes, tokens = items + ARGV[from], bytes + ARGV[from + 1], tokens + ARGV[from + 2]
end

local function close_entry(stream, part, entry, bits)
  redis.call('XDEL', stream, entry)
  if bits then
    redis.call('DEL', part)
  end
end

local function commit_whole(stream, part, pk, inbox)
  local entry = ARGV[at + 1]
  local proof = ARGV[at] == 'w' and entry or commit_id
  local bits = redis.call('GET', part)
  if has_committed_jobs(bits) then
    return {2}
  end
  if redis.call('XACK', stream, group, entry) == 0 then
    return {redis.call('GET', pk) == proof and 1 or 0}
  end
  if proof ~= entry then
    redis.call('SET', pk, proof, 'XX', 'KEEPTTL')
  end
  close_entry(stream, part, entry, bits)
  count(at + 2)
  deliver(inbox, ARGV[at + 5], ARGV[at + 6])
  return {1}
end

local function commit_some(stream, part, pk, inbox)
  local entry, numbers, jobs = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  if redis.call('GET', pk) == commit_id then
    return {1}
  end
  if #redis.call('XPENDING', stream, group, entry, entry, 1) == 0 then
    return {0}
  end
  local result = {1}
  for job = 0, jobs - 1 do
    local from = at + 4 + 6 * job
    if redis.call('SETBIT', part, 2 * tonumber(ARGV[from]), 1) == 0 then
      count(from + 1)
      deliver(inbox, ARGV[from + 4], ARGV[from + 5])
    else
      result[#result + 1] = tonumber(ARGV[from])
    end
  end
  local is_complete = true
  for number in string.gmatch(numbers, '%d+') do
    is_complete = is_complete and redis.call('GETBIT', part, 2 * tonumber(number)) == 1
  end
  redis.call('SET', pk, commit_id, 'XX', 'KEEPTTL')
  if is_complete then
    redis.call('XACK', stream, group, entry)
    close_entry(stream, part, entry, true)
  else
    redis.call('PEXPIRE', part, math.max(redis.call('PTTL', pk), 60000))
  end
  return result
end

for pack = 0, packs - 1 do
  local stream, part, pk, inbox =
    KEYS[3 + 4 * pack], KEYS[4 + 4 * pack], KEYS[5 + 4 * pack], KEYS[6 + 4 * pack]
  if ARGV[at] ~= 's' then
    results[#results + 1] = commit_whole(stream, part, pk, inbox)
    at = at + 7
  else
    results[#results + 1] = commit_some(stream, part, pk, inbox)
    at = at + 4 + 6 * tonumber(ARGV[at + 3])
  end
end

local now = redis.call('TIME')
if items > 0 then
  local has = redis.call('HMGET', depth, 'items', 'bytes', 'tokens', 'second', 'served', 'served_before')
  local served, served_before = items, has[5] or 0
  if has[4] == now[1] then
    served, served_before = served + has[5], has[6] or 0
  end
  redis.call('HSET', depth, 'items', (has[1] or 0) - items, 'bytes', (has[2] or 0) - bytes,
    'tokens', (has[3] or 0) - tokens, 'second', now[1], 'served', served, 'served_before', served_before)
end
table.insert(results, 1, tonumber(now[1] .. string.format('%06d', now[2])))
return results
