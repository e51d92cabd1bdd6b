-- A new roll: hosts that are drained one after the other.
-- ARGV: id, fields (JSON object), hosts (JSON list), event type, event data
-- OK | SAME (it exists) | BUSY, the roll that has one of these hosts already, that host
local key = prefix .. 'roll:' .. id
if redis.call('EXISTS', key) == 1 then return {'SAME'} end
local wanted = {}
for _, host in ipairs(cjson.decode(ARGV[3])) do wanted[host] = true end
for _, other in ipairs(redis.call('ZRANGE', prefix .. 'rolls', 0, -1)) do
  for _, host in ipairs(cjson.decode(redis.call('HGET', prefix .. 'roll:' .. other, 'hosts') or '[]')) do
    if wanted[host] then return {'BUSY', other, host} end
  end
end
local at = now()
for name, value in pairs(cjson.decode(ARGV[2])) do redis.call('HSET', key, name, value) end
redis.call('HSET', key, 'hosts', ARGV[3], 'version', 1, 'created', at, 'changed', at)
redis.call('ZADD', prefix .. 'rolls', at, id)
redis.call('XADD', key .. ':events', '*', 'type', ARGV[4], 'data', ARGV[5])
return {'OK'}
