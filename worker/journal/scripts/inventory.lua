-- An agent publishes what it saw on its host, unless a migration has changed it since it looked.
-- ARGV: host, version before the look, fields (JSON object), when the look began (Redis's milliseconds; 0 for now)
-- OK | AGAIN
local key = prefix .. 'domains:' .. ARGV[1]
if (redis.call('GET', key .. ':v') or '0') ~= ARGV[2] then return {'AGAIN'} end
redis.call('DEL', key)
for name, value in pairs(cjson.decode(ARGV[3])) do
  redis.call('HSET', key, name, value)
end
redis.call('SET', key .. ':at', ARGV[4] == '0' and now() or ARGV[4])
return {'OK'}
