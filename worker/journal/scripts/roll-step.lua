-- A roll takes one step, unless it has taken another one since it was read.
-- ARGV: id, version that was read, fields (JSON object), event type, event data, seconds to keep it ("" where it goes on)
-- OK | STALE
local key = prefix .. 'roll:' .. id
if redis.call('HGET', key, 'version') ~= ARGV[2] then return {'STALE'} end
local at = now()
for name, value in pairs(cjson.decode(ARGV[3])) do redis.call('HSET', key, name, value) end
redis.call('HSET', key, 'version', ARGV[2] + 1, 'changed', at)
redis.call('XADD', key .. ':events', 'MAXLEN', '~', 5000, '*', 'type', ARGV[4], 'data', ARGV[5])
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'ended', at)
  redis.call('ZREM', prefix .. 'rolls', id)
  redis.call('ZADD', prefix .. 'rolled', at, id)
  redis.call('ZREMRANGEBYSCORE', prefix .. 'rolled', '-inf', at - ARGV[6] * 1000)
  redis.call('EXPIRE', key, ARGV[6])
  redis.call('EXPIRE', key .. ':events', ARGV[6])
end
return {'OK'}
