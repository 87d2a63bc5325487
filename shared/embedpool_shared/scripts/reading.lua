-- Which files the batches that have not ended read. Included where files are deleted.

local function files_being_read(active, batches_prefix)
  local reader_of = {}
  for _, batch in ipairs(redis.call('ZRANGE', active, 0, -1)) do
    local record = redis.call('HGET', batches_prefix .. batch, 'record')
    if record then
      reader_of[cjson.decode(record).input_file_id] = batch
    end
  end
  return reader_of
end
