-- Removes the hub's clock, if it still is at a number that cannot have been given by now.
-- KEYS = clock, ARGV = the number.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and last[1] ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], 0)
