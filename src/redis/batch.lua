
-- Publishes events for nginx.
-- KEYS = stream [, idempotency key], ARGV = lifetime of that key in ms, TYPE, DATA, ...
local at, fault = place(KEYS[1])
if not at then
  return redis.error_reply('ERR ' .. fault)
end
local events = {}
for i = 2, #ARGV do
  events[i - 1] = ARGV[i]
end
local ids, refusal = publish(at, events, KEYS[2], ARGV[1])
return ids or refusal
