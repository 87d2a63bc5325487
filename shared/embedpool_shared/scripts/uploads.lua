-- What an owner has uploaded, as its quota counts it. Included where files come and go.

local TOTAL_BYTES = ':bytes'

local function discount(sizes, id)
  local freed = redis.call('HGET', sizes, id)
  if freed then
    redis.call('HDEL', sizes, id)
    redis.call('HINCRBY', sizes, TOTAL_BYTES, string.format('%.0f', 0 - freed))
  end
end

local function drop_expired(expiring, listed, sizes, everybody)
  local now = redis.call('TIME')[1]
  for _, id in ipairs(redis.call('ZRANGE', expiring, '-inf', now, 'BYSCORE')) do
    discount(sizes, id)
    redis.call('ZREM', expiring, id)
    redis.call('ZREM', listed, id)
    redis.call('ZREM', everybody, id)
  end
end

-- Returns how many there are, and their bytes.
local function count_uploads(sizes)
  local files = math.max(0, redis.call('HLEN', sizes) - 1)
  return files, tonumber(redis.call('HGET', sizes, TOTAL_BYTES) or 0)
end
