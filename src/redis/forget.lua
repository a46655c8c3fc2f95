
-- Forgets a channel: its stream goes, and every nginx is told, in the order of its messages.
-- KEYS = stream. Answers how many events the stream had.
local at, fault = place(KEYS[1])
if not at then
  return redis.error_reply('ERR ' .. fault)
end
local events, newest_id = redis.pcall('XLEN', at.stream), '0-0'
if is_error(events) then
  -- It is of another kind.
  events = 0
else
  newest_id = newest(at.stream) or newest_id
end
local _, _, token = bounds(at.history)
-- First, as it may be refused: nothing is deleted of which the others do not learn.
redis.call('PUBLISH', at.control, '\1sse ' .. token .. ' forget ' .. newest_id .. '\n' .. at.channel)
redis.call('UNLINK', at.stream)
return events
