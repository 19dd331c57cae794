/**
 * What has to happen as one, in Redis' own language. Redis runs a script whole, or not at all.
 *
 * Arguments: namespace, token, group, source topic, number of offsets, then for each: partition, next; number of records,
 * then for each: topic, partition, 'c' for a compacted topic, key, headers, value.
 * A stream's id is `N-0`, N counting from 1: the record's offset.
 */
export const WRITE = `
local ns, token, group, source = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at = 6
for i = 1, tonumber(ARGV[5]) do
  if redis.call('GET', ns .. ':lease:' .. group .. ':' .. source .. ':' .. ARGV[at]) ~= token then
    return redis.error_reply('FENCED partition ' .. ARGV[at] .. ' of ' .. source .. ' belongs to another member now')
  end
  redis.call('HSET', ns .. ':offsets:' .. group, source .. '/' .. ARGV[at], ARGV[at + 1])
  at = at + 2
end
local count = tonumber(ARGV[at])
at = at + 1
for i = 1, count do
  local topic, partition, compacted, key, headers, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  at = at + 6
  if compacted == 'c' then
    local state = ns .. ':state:' .. topic .. ':' .. partition
    if value == '' then
      redis.call('HDEL', state, key)
      redis.call('HDEL', state .. ':headers', key)
    else
      redis.call('HSET', state, key, value)
      redis.call('HSET', state .. ':headers', key, headers)
    end
    redis.call('XADD', ns .. ':changes:' .. topic, 'MAXLEN', '~', '10000', '*', 'k', key, 'h', headers, 'v', value)
  else
    local stream = ns .. ':stream:' .. topic .. ':' .. partition
    local offset = redis.call('INCR', stream .. ':end')
    redis.call('XADD', stream, offset .. '-0', 'k', key, 'h', headers, 'v', value)
  end
end
return count`;

/** Takes or keeps a lease: key, token, milliseconds. 1 when it is the token's. */
export const LEASE = `
local holder = redis.call('GET', ARGV[1])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
return 1`;

/** Gives a lease back: key, token. */
export const RELEASE = `
if redis.call('GET', ARGV[1]) == ARGV[2] then return redis.call('DEL', ARGV[1]) end
return 0`;

/** A member's sign of life: key, token, milliseconds. Returns all members that live, in one order. */
export const ALIVE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', ARGV[1], '-inf', now)
redis.call('ZADD', ARGV[1], now + ARGV[3], ARGV[2])
local members = redis.call('ZRANGE', ARGV[1], 0, -1)
table.sort(members)
return members`;
