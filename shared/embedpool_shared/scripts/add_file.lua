#!lua
-- Keep a file's record and list it, unless its owner has too many uploads or too much in them.
-- Those of the owner that have expired leave its lists first, and count for nothing.
--
-- KEYS  file, its owner's files by expiry, the same by creation, sizes of its owner's uploads,
--       everybody's files by creation, contents by when they are to be deleted
-- ARGV  id, record, size in bytes, created at, expires at, most files, most bytes ("" for no quota),
--       seconds for which lists live
-- Returns 1 · 0 it would be too many or too much: nothing was added

-- include uploads
local file, expiring, listed, sizes, everybody, contents = unpack(KEYS)
local id, size, created_at, expires_at = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local is_counted = ARGV[6] ~= '' or ARGV[7] ~= ''
local most_files, most_bytes = tonumber(ARGV[6]) or math.huge, tonumber(ARGV[7]) or math.huge

drop_expired(expiring, listed, sizes, everybody)
if is_counted and not redis.call('HGET', sizes, id) then
  local files, bytes = count_uploads(sizes)
  if files + 1 > most_files or bytes + size > most_bytes then
    return 0
  end
  redis.call('HSET', sizes, id, size)
  redis.call('HINCRBY', sizes, TOTAL_BYTES, size)
  redis.call('EXPIRE', sizes, ARGV[8])
end
redis.call('HSET', file, 'record', ARGV[2])
redis.call('EXPIRE', file, string.format('%.0f', math.ceil(expires_at - redis.call('TIME')[1])))
redis.call('ZADD', expiring, expires_at, id)
redis.call('ZADD', listed, created_at, id)
redis.call('ZADD', everybody, created_at, id)
redis.call('ZADD', contents, expires_at, id)
for _, list in ipairs({expiring, listed, everybody}) do
  redis.call('EXPIRE', list, ARGV[8])
end
return 1
