#!lua flags=allow-oom
-- Forget a file, unless a batch that has not ended reads it; its content is to be deleted at once.
-- At the memory limit too: that is when room is needed.
--
-- KEYS  file, its owner's files by expiry, the same by creation, sizes of its owner's uploads,
--       everybody's files by creation, contents by when they are to be deleted, active batches
-- ARGV  id, what batches' names begin with, ms for which its place in the lists is remembered
-- Returns 1 · 0 there is no such file · the batch that reads it: nothing was done

-- include reading
-- include uploads
local file, expiring, listed, sizes, everybody, contents, active = unpack(KEYS)
local id = ARGV[1]

if not redis.call('HGET', file, 'record') then
  return 0
end
local reader = files_being_read(active, ARGV[2])[id]
if reader then
  return reader
end

local place = redis.call('ZSCORE', listed, id)
redis.call('DEL', file)
if place then
  redis.call('HSET', file, 'gone', place)
  redis.call('PEXPIRE', file, ARGV[3])
end
discount(sizes, id)
redis.call('ZREM', expiring, id)
redis.call('ZREM', listed, id)
redis.call('ZREM', everybody, id)
redis.call('ZADD', contents, 0, id)
return 1
