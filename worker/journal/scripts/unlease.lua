-- Gives a lease back, if it is still this agent's.
-- ARGV: host, incarnation
local key = prefix .. 'lease:' .. ARGV[1]
local held = redis.call('GET', key)
if held and cjson.decode(held).incarnation == ARGV[2] then redis.call('DEL', key) end
return {'OK'}
