#!lua name=sse

-- The publish script as a library of Redis Functions, for Redis 7 and later:
--
--     redis-cli -x FUNCTION LOAD REPLACE < sse.lua
--     redis-cli FCALL sse_publish 1 sse:{T}:s:CHANNEL DATA [TYPE [IDEMPOTENCY-KEY]]
--
-- It is described in publish.lua.

-- core: identical in publish.lua, in sse.lua, and in the scripts that nginx runs

local REPEAT_MS = 120000
local DAY_MS = 86400000
local FOREVER_MS = 1e12
local MOST = 1e9
local AHEAD_MS = 3600000
local LAST_SEQ = '-18446744073709551615'
-- The type of the event that marks the finish of a run.
local FINISH = 'sse.finish'

-- Whether a channel belongs to Redis itself or is a control channel of nginx.
local function is_internal(subject)
  local internal = { '__keyspace@', '__keyevent@', '__subkeyspace', '__subkeyevent', '__redis__:',
    '__sentinel__:' }
  for i = 1, #internal do
    if string.sub(subject, 1, #internal[i]) == internal[i] then
      return true
    end
  end
  return string.find(subject, '^sse:{.*}:ctl$') ~= nil
end

-- The keys and names of a channel. All of them have the hash tag of its stream's key.
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
  if is_internal(prefix .. channel) then
    return nil, 'Redis itself or its nginxes use a channel of this name'
  end
  local root = 'sse:{' .. tag .. '}:'
  return {
    stream = key,
    clock = root .. 'clock',
    history = root .. 'history',
    control = root .. 'ctl',
    repeats = root .. 'k:' .. #channel .. ':' .. channel .. ':',
    last = root .. 'last',
    channel = channel,
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

-- How long a stream is kept without a new event whose events are kept this long (ms, nil for no limit).
local function kept(age)
  return age > 0 and math.min(math.max(2 * age, DAY_MS), FOREVER_MS) or nil
end

-- What is kept: how many events of a channel, how many of a run that is not finished, how long the stream without
-- a new event, and how long while its run is not finished; and the secret token by which nginx recognizes the
-- messages of this script.
local function bounds(key)
  local set = redis.call('HMGET', key, 'count', 'age', 'token', 'runs', 'runs_age')
  local count, age = tonumber(set[1] or 100), tonumber(set[2] or 600000)
  local runs, runs_age = tonumber(set[4] or 0), tonumber(set[5] or 0)
  if not count or not (count >= 1) then
    count = 100
  end
  if not age or age ~= age then
    age = 600000
  end
  if not runs or not (runs >= 1) or not runs_age or runs_age ~= runs_age then
    runs, runs_age = 0, 0
  end
  local token = set[3]
  if not token or #token ~= 32 or string.find(token, '[^0-9a-f]') then
    token = '-'
  end
  local keep = kept(age)
  local open = keep
  if runs > 0 then
    open = keep and kept(runs_age)
    open = open and math.max(open, keep)
  end
  return { count = math.min(count, MOST), runs = math.min(runs, MOST), keep = keep, open = open, token = token }
end

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

-- Whether an id is not too far in the future: an application may have added an id in microseconds. Without
-- permission to run TIME, every id is accepted.
local function is_plausible(id)
  local time = redis.pcall('TIME')
  if is_error(time) then
    return true
  end
  return ms_of(id) <= time[1] * 1000 + time[2] / 1000 + AHEAD_MS
end

-- The newest entry of a stream: its id, its number in its run, and whether it is a finish.
local function newest_entry(stream)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if not last then
    return nil
  end
  local entry, fields = { id = last[1] }, last[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'run' then
      entry.number = tonumber(fields[i + 1])
    elseif fields[i] == 'event' and fields[i + 1] == FINISH then
      entry.is_finish = true
    end
  end
  return entry
end

local function newest(stream)
  local last = newest_entry(stream)
  return last and last.id
end

-- Whether a stream rejects an id because it already has this one, a higher one, or the highest possible.
local function is_behind(reply)
  return is_error(reply) and (string.find(reply.err, 'equal or smaller', 1, true)
    or string.find(reply.err, 'last possible ID', 1, true))
end

-- Returns the next id. A clock that is far ahead is removed, because every later id would be ahead, too.
local function tick(clock)
  local id = redis.pcall('XADD', clock, 'MAXLEN', 1, '*', 't', '')
  if is_behind(id) or not is_error(id) and not is_plausible(id) then
    redis.call('PEXPIRE', clock, 0)
    id = redis.pcall('XADD', clock, 'MAXLEN', 1, '*', 't', '')
  end
  if is_error(id) then
    return nil, id
  end
  return id
end

-- Raises the clock above every id of the stream: the clock may have gone back in a failover, or an entry
-- may have been added without it. A stream that is far ahead is removed.
local function raise(clock, stream)
  local about = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      if is_plausible(about[i + 1]) then
        redis.pcall('XADD', clock, 'MAXLEN', 1, about[i + 1], 't', '')
      else
        redis.call('PEXPIRE', stream, 0)
      end
    end
  end
end

local function before(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if seq ~= '0' then
    return ms .. '-' .. string.format('%.0f', seq - 1)
  end
  return string.format('%.0f', ms - 1) .. LAST_SEQ
end

-- Returns the highest id that a channel may have had before `id`, the first of its stream. A sorted set
-- that does not expire records when each channel had its last event: if the channel is in the set and its
-- stream does not exist, the stream was deleted or evicted. The empty name has the time when the set was
-- created, negated; nothing is known about events before it. `given` is the last id from the clock.
local function before_stream(at, id, given)
  local last = redis.pcall('ZSCORE', at.last, at.channel)
  if is_error(last) then
    return given or before(id)
  end
  if last and tonumber(last) >= 0 then
    last = string.format('%.0f', last)
    return tonumber(last) < ms_of(id) and last .. LAST_SEQ or before(id)
  end
  local began = redis.call('ZSCORE', at.last, '')
  if began then
    return string.format('%.0f', math.min(math.max(-began, 0), ms_of(id))) .. '-0'
  end
  local first = given or before(id)
  redis.pcall('ZADD', at.last, -ms_of(given or id), '')
  return first
end

-- Returns how many events precede the next one in its run, or nil if that is not known: the newest entry is of
-- a script that did not number them, or the stream was deleted or evicted.
local function next_number(at, last, id, limits)
  if last then
    return last.is_finish and 0 or last.number and last.number + 1
  end
  local score = redis.pcall('ZSCORE', at.last, at.channel)
  if is_error(score) then
    return nil
  end
  local ms = score and tonumber(score) or -1
  local has_expired = limits.open and ms < ms_of(id) - limits.open
  return (ms < 0 or has_expired) and 0 or nil
end

-- Returns how many entries of a stream are kept: the history, and the run that is not finished.
local function entries_kept(limits, number)
  if limits.runs == 0 then
    return limits.count
  end
  return math.max(limits.count, number and math.min(number + 1, limits.runs) or limits.runs)
end

-- Records when a channel had its last event, and removes some channels whose streams have expired.
local function note(at, id, keep)
  local added = redis.pcall('ZADD', at.last, ms_of(id), at.channel)
  if is_error(added) or not keep then
    return
  end
  local old = redis.call('ZRANGEBYSCORE', at.last, 0, ms_of(id) - keep, 'LIMIT', 0, 10)
  if #old > 0 then
    redis.call('ZREM', at.last, unpack(old))
  end
end

local function append(at, limits, name, data)
  local last, given = newest_entry(at.stream), newest(at.clock)
  given = given and is_plausible(given) and given or nil
  local function add(id)
    local fields = { 'data', data }
    if name ~= '' then
      fields[3], fields[4] = 'event', name
    end
    fields[#fields + 1] = 'prev'
    fields[#fields + 1] = last and last.id or before_stream(at, id, given)
    local most = limits.count
    if name ~= FINISH then
      local number = limits.runs > 0 and next_number(at, last, id, limits) or nil
      most = entries_kept(limits, number)
      if number then
        fields[#fields + 1] = 'run'
        fields[#fields + 1] = string.format('%.0f', number)
      end
    end
    return redis.pcall('XADD', at.stream, 'MAXLEN', '~', string.format('%.0f', most), id, unpack(fields))
  end
  local id, fault = tick(at.clock)
  if not id then
    return nil, fault
  end
  local added = add(id)
  if is_behind(added) then
    raise(at.clock, at.stream)
    last = newest_entry(at.stream)
    id, fault = tick(at.clock)
    if not id then
      return nil, fault
    end
    added = add(id)
  end
  if is_error(added) then
    return nil, added
  end
  local sent = redis.pcall('PUBLISH', at.subject, '\1sse ' .. limits.token .. ' ' .. id .. ' '
    .. (last and last.id or '0-0') .. ' ' .. #name .. '\n' .. name .. data)
  if is_error(sent) then
    -- The Redis user has no permission for this channel. The event is removed again.
    redis.pcall('XDEL', at.stream, id)
    return nil, sent
  end
  return id
end

-- Publishes events, a list of type, data, type, data, ..., and finishes the run if `finish` is true: all of it
-- or nothing. Returns the ids of the events, or nil and an error reply.
local function publish(at, events, repeat_key, repeat_ms, finish)
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
  local limits = bounds(at.history)
  local ids = {}
  for i = 1, #events, 2 do
    local id, fault = append(at, limits, events[i], events[i + 1])
    if not id then
      return nil, fault
    end
    ids[#ids + 1] = id
  end
  local last = ids[#ids]
  local before = finish and newest_entry(at.stream)
  if finish and not (before and before.is_finish) then
    local id, fault = append(at, limits, FINISH, '')
    if not id then
      return nil, fault
    end
    last = id
  end
  local keep = limits.open
  if finish then
    keep = limits.keep
  end
  if keep then
    redis.call('PEXPIRE', at.stream, string.format('%.0f', keep))
  else
    redis.call('PERSIST', at.stream)
  end
  if last then
    note(at, last, limits.open)
  end
  if repeat_key then
    redis.call('SET', repeat_key, table.concat(ids, ' '), 'PX', repeat_ms)
  end
  return ids
end

-- Publishes one event, or finishes a run, or both. This is what publishers call.
local function sse_publish(keys, args)
  if #keys ~= 1 or #args < 1 or #args > 4 then
    return redis.error_reply('ERR call it with one key and DATA [TYPE [IDEMPOTENCY-KEY [last | finish]]]')
  end
  local at, fault = place(keys[1])
  if not at then
    return redis.error_reply('ERR ' .. fault)
  end
  local key = args[3] or ''
  if #key > 128 then
    return redis.error_reply('ERR the idempotency key is longer than 128 bytes')
  end
  local run = args[4] or ''
  if run ~= '' and run ~= 'last' and run ~= 'finish' then
    return redis.error_reply('ERR the fourth argument is last or finish')
  end
  local events = { args[2] or '', args[1] }
  if run == 'finish' then
    if args[1] ~= '' or args[2] ~= '' then
      return redis.error_reply('ERR with finish, DATA and TYPE are empty')
    end
    events = {}
  end
  local ids, refusal = publish(at, events, key ~= '' and at.repeats .. key or nil, REPEAT_MS, run ~= '')
  if not ids then
    return refusal
  end
  return ids[1] or redis.status_reply('OK')
end

-- end of core

-- Finishes the run of a channel.
local function sse_finish(keys, args)
  if #keys ~= 1 or #args > 1 then
    return redis.error_reply('ERR call it with one key and [IDEMPOTENCY-KEY]')
  end
  return sse_publish(keys, { '', '', args[1] or '', 'finish' })
end

redis.register_function('sse_publish', sse_publish)
redis.register_function('sse_finish', sse_finish)
