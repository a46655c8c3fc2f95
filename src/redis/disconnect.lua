-- Disconnects a user on every nginx: adds an entry to a stream that every nginx reads. The id of an entry is
-- its number, so that a reader notices missing ones. KEYS = stream; ARGV = user, the time before which its
-- revoked tokens were issued, the time until which they are revoked (ms since 1970; 0 for no revocation),
-- the number of entries to keep. Returns the number.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = newest and tonumber(string.match(newest[1], '^%d+')) + 1 or 1
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], string.format('%d-0', number),
  'user', ARGV[1], 'issued_before', ARGV[2], 'until', ARGV[3])
return number
