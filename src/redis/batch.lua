
-- Publishes events for nginx.
-- KEYS = stream [, idempotency key], ARGV = lifetime of that key in ms, '' or 'finish', TYPE, DATA, ...
local at, fault = place(KEYS[1])
if not at then
  return redis.error_reply('ERR ' .. fault)
end
local events = {}
for i = 3, #ARGV do
  events[i - 2] = ARGV[i]
end
local ids, refusal = publish(at, events, KEYS[2], ARGV[1], ARGV[2] == 'finish')
return ids or refusal
