#!lua flags=allow-oom
-- Count what an owner has uploaded; what has expired leaves its lists first.
--
-- KEYS  its files by expiry, the same by creation, sizes of its uploads, everybody's files by creation
-- ARGV  none
-- Returns {files, bytes}

-- include uploads
local expiring, listed, sizes, everybody = unpack(KEYS)

drop_expired(expiring, listed, sizes, everybody)
local files, bytes = count_uploads(sizes)
return {files, bytes}
