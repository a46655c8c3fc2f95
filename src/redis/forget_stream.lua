-- Forgets a channel with redis_source stream: what the application's stream has by now is not delivered
-- any more. The stream itself is not touched.
-- KEYS = stream, hash of low watermarks; ARGV = control channel, channel. Answers how many entries the
-- stream has.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local newest = last and last[1] or '0-0'
if last then
  redis.call('HSET', KEYS[2], ARGV[2], newest)
end
redis.call('PUBLISH', ARGV[1], '\1sse - forget ' .. newest .. '\n' .. ARGV[2])
return redis.call('XLEN', KEYS[1])
