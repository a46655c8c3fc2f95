#!lua name=sse

-- The publish script as a library of Redis Functions, for Redis 7 and later:
--
--     redis-cli -x FUNCTION LOAD REPLACE < sse.lua
--     redis-cli FCALL sse_publish 1 sse:{T}:s:CHANNEL DATA [TYPE [IDEMPOTENCY-KEY]]
--
-- What it does is told in publish.lua.

-- core: the same in publish.lua and sse.lua, and in what nginx itself calls

local REPEAT_MS = 120000
local DAY_MS = 86400000
local FOREVER_MS = 1e12
local MOST = 1e9

-- Where everything of a channel lies: all of it has the hash tag of its stream's key.
local function place(key)
  local tag, channel = string.match(key, '^sse:{([^{}]+)}:s:(.*)$')
  if not tag then
    return nil, 'the key is not sse:{T}:s:CHANNEL'
  end
  if #channel < 1 or #channel > 255 then
    return nil, 'a channel name has 1 to 255 bytes'
  end
  if string.find(channel, '[%z\1-\31\127]') or string.find(channel, '\194[\128-\159]') then
    return nil, 'the channel name contains a control character'
  end
  if string.sub(channel, 1, 4) == 'sse.' then
    return nil, 'channel names beginning with sse. are reserved'
  end
  local prefix = tag == 'sse' and '' or tag
  local root = 'sse:{' .. tag .. '}:'
  return {
    stream = key,
    clock = root .. 'clock',
    history = root .. 'history',
    repeats = root .. 'k:' .. #channel .. ':' .. channel .. ':',
    subject = prefix .. channel,
  }
end

local function type_fault(name)
  if #name > 128 then
    return 'the event type is longer than 128 bytes'
  end
  if string.find(name, '[%z\r\n]') then
    return 'the event type contains CR, LF or NUL'
  end
  if name == 'error' or name == 'open' or string.sub(name, 1, 4) == 'sse.' then
    return 'the event types error, open and those beginning with sse. are reserved'
  end
end

-- What the hub owes of a channel: a count of events, and how long the stream is kept without any; and
-- the token by which nginx knows that a message is this script's, which only Redis and nginx have.
local function bounds(key)
  local set = redis.call('HMGET', key, 'count', 'age', 'token')
  local count, age = tonumber(set[1] or 100), tonumber(set[2] or 600000)
  if not count or count < 1 then
    count = 100
  end
  if not age then
    age = 600000
  end
  local keep = nil
  if age > 0 then
    keep = string.format('%.0f', math.min(math.max(2 * age, DAY_MS), FOREVER_MS))
  end
  return string.format('%.0f', math.min(count, MOST)), keep, set[3] or '-'
end

local function tick(clock)
  return redis.call('XADD', clock, 'MAXLEN', 1, '*', 't', '')
end

-- Raises the clock above all that the stream ever held: it stepped back in a failover, or somebody
-- added to the stream without it.
local function raise(clock, stream)
  local about = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      redis.pcall('XADD', clock, 'MAXLEN', 1, about[i + 1], 't', '')
    end
  end
end

local function append(at, count, token, name, data)
  local last = redis.call('XREVRANGE', at.stream, '+', '-', 'COUNT', 1)[1]
  local prev = last and last[1] or '0-0'
  local function add(id)
    if name == '' then
      return redis.pcall('XADD', at.stream, 'MAXLEN', '~', count, id, 'data', data, 'prev', prev)
    end
    return redis.pcall('XADD', at.stream, 'MAXLEN', '~', count, id,
      'data', data, 'event', name, 'prev', prev)
  end
  local id = tick(at.clock)
  local added = add(id)
  if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then
    raise(at.clock, at.stream)
    id = tick(at.clock)
    added = add(id)
  end
  if type(added) == 'table' and added.err then
    return nil, added
  end
  redis.call('PUBLISH', at.subject,
    '\1sse ' .. token .. ' ' .. id .. ' ' .. prev .. ' ' .. #name .. '\n' .. name .. data)
  return id
end

-- Publishes events, a list of type, data, type, data, ...: all of them or none. Answers their ids,
-- or nil and an error reply.
local function publish(at, events, repeat_key, repeat_ms)
  for i = 1, #events, 2 do
    local fault = type_fault(events[i])
    if fault then
      return nil, redis.error_reply('ERR ' .. fault)
    end
  end
  if repeat_key then
    local first = redis.call('GET', repeat_key)
    if first then
      local ids = {}
      for id in string.gmatch(first, '%S+') do
        ids[#ids + 1] = id
      end
      return ids
    end
  end
  local count, keep, token = bounds(at.history)
  local ids = {}
  for i = 1, #events, 2 do
    local id, fault = append(at, count, token, events[i], events[i + 1])
    if not id then
      return nil, fault
    end
    ids[#ids + 1] = id
  end
  if keep then
    redis.call('PEXPIRE', at.stream, keep)
  else
    redis.call('PERSIST', at.stream)
  end
  if repeat_key then
    redis.call('SET', repeat_key, table.concat(ids, ' '), 'PX', repeat_ms)
  end
  return ids
end

-- One event, as it is called from outside.
local function sse_publish(keys, args)
  if #keys ~= 1 or #args < 1 or #args > 3 then
    return redis.error_reply('ERR call it with one key and DATA [TYPE [IDEMPOTENCY-KEY]]')
  end
  local at, fault = place(keys[1])
  if not at then
    return redis.error_reply('ERR ' .. fault)
  end
  local key = args[3] or ''
  if #key > 128 then
    return redis.error_reply('ERR the idempotency key is longer than 128 bytes')
  end
  local ids, refusal = publish(at, { args[2] or '', args[1] },
    key ~= '' and at.repeats .. key or nil, REPEAT_MS)
  if not ids then
    return refusal
  end
  return ids[1]
end

-- end of core

redis.register_function('sse_publish', sse_publish)
