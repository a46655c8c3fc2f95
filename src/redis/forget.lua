
-- Deletes a channel's events: removes its stream, and notifies every nginx in the order of the channel's
-- messages. KEYS = stream. Returns the number of events that the stream had.
local at, fault = place(KEYS[1])
if not at then
  return redis.error_reply('ERR ' .. fault)
end
local events, newest_id = redis.pcall('XLEN', at.stream), '0-0'
if is_error(events) then
  -- The key is not a stream.
  events = 0
else
  newest_id = newest(at.stream) or newest_id
end
local token = bounds(at.history).token
-- This comes first because it may be rejected: nothing must be deleted without notifying every nginx.
redis.call('PUBLISH', at.control, '\1sse ' .. token .. ' forget ' .. newest_id .. '\n' .. at.channel)
redis.call('UNLINK', at.stream)
return events
