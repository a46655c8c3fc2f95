-- Publishes events with redis_source stream: adds them to the channel's stream, without any other key.
-- KEYS = stream [, idempotency key], ARGV = lifetime of that key in ms, COUNT, TYPE, DATA, TYPE, DATA, ...
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
for i = 3, #ARGV, 2 do
  local name, data = ARGV[i], ARGV[i + 1]
  if name == '' then
    ids[#ids + 1] = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'data', data)
  else
    ids[#ids + 1] =
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'data', data, 'event', name)
  end
end
if KEYS[2] then
  redis.call('SET', KEYS[2], table.concat(ids, ' '), 'PX', ARGV[1])
end
return ids
