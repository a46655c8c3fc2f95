-- Deletes a channel's events with redis_source stream: the entries that the application's stream has had so
-- far are not delivered any more. The stream itself is not changed.
-- KEYS = stream, hash of low watermarks; ARGV = control channel, channel. Returns the number of entries of
-- the stream.
local length, newest = redis.call('XLEN', KEYS[1]), '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  -- An emptied stream has a last id, too.
  local about = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      newest = about[i + 1]
    end
  end
end
local before = redis.call('HMGET', KEYS[2], ARGV[2])[1]
if newest ~= '0-0' then
  redis.call('HSET', KEYS[2], ARGV[2], newest)
end
local sent = redis.pcall('PUBLISH', ARGV[1], '\1sse - forget ' .. newest .. '\n' .. ARGV[2])
if type(sent) == 'table' and sent.err then
  -- Nothing must be deleted without notifying every nginx.
  if before then
    redis.call('HSET', KEYS[2], ARGV[2], before)
  elseif newest ~= '0-0' then
    redis.call('HDEL', KEYS[2], ARGV[2])
  end
  return sent
end
return length
