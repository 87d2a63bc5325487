#!lua
-- Say which contents of the file store are to be deleted by now; what a batch still reads is not.
--
-- KEYS  contents by when they are to be deleted, active batches
-- ARGV  what batches' names begin with, how many at most
-- Returns file ids

-- include reading
local contents, active = KEYS[1], KEYS[2]
local most = tonumber(ARGV[2])

local now, looked_at = redis.call('TIME')[1], most + redis.call('ZCARD', active)
local due = redis.call('ZRANGE', contents, '-inf', now, 'BYSCORE', 'LIMIT', 0, looked_at)
if #due == 0 then
  return due
end
local reader_of, free = files_being_read(active, ARGV[1]), {}
for _, id in ipairs(due) do
  if not reader_of[id] and #free < most then
    free[#free + 1] = id
  end
end
return free
