-- Since when the oldest pack of a stream waits, without its texts. Included where lanes are looked at.

local function oldest(stream)
  return redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
end

-- Returns µs; 0 where nothing waits.
local function arrival(stream)
  local pack = oldest(stream)
  for index = 1, pack and #pack[2] or 0, 2 do
    if pack[2][index] == 't' then
      return tonumber(pack[2][index + 1])
    end
  end
  return 0
end
