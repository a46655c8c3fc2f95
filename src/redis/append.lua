-- Publishes events with redis_source stream: adds them to the channel's stream, without any other key.
-- KEYS = stream [, idempotency key], ARGV = lifetime of that key in ms, COUNT, COUNT while the run is not
-- finished, '' or 'finish', TYPE, DATA, ...
if KEYS[2] then
  local first = redis.call('GET', KEYS[2])
  if first then
    local ids = {}
    for id in string.gmatch(first, '%S+') do
      ids[#ids + 1] = id
    end
    return ids
  end
end
local ids = {}
for i = 5, #ARGV, 2 do
  local name, data = ARGV[i], ARGV[i + 1]
  if name == '' then
    ids[#ids + 1] = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'data', data)
  else
    ids[#ids + 1] =
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'data', data, 'event', name)
  end
end
if ARGV[4] == 'finish' then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local is_finished = false
  for i = 1, newest and #newest[2] or 0, 2 do
    is_finished = is_finished or newest[2][i] == 'sse.finish'
  end
  if not is_finished then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'sse.finish', '1')
  end
end
if KEYS[2] then
  redis.call('SET', KEYS[2], table.concat(ids, ' '), 'PX', ARGV[1])
end
return ids
