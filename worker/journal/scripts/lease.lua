-- One agent per host: takes the lease, renews it, or says who holds it.
-- ARGV: host, JSON of the agent, its incarnation, milliseconds
-- OK | HELD, JSON of the holder
local key = prefix .. 'lease:' .. ARGV[1]
local held = redis.call('GET', key)
if held and cjson.decode(held).incarnation ~= ARGV[3] then return {'HELD', held} end
redis.call('SET', key, ARGV[2], 'PX', ARGV[4])
return {'OK'}
