#!lua flags=allow-oom
-- Tell every worker of a lane, once for as long as Redis remembers.
--
-- KEYS  known lanes, lanes
-- ARGV  lane
-- Returns 1 if it was new
if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], '*', 'lane', ARGV[1])
return 1
