-- What is next cannot be done until a host is back; told once for each host and reason.
-- ARGV: id, epoch, host, why, result key, result text, seconds to keep it
-- OK | SAME (told already) | STALE
local state, epoch, step, told = unpack(redis.call('HMGET', record, 'state', 'epoch', 'step', 'waiting'))
if state ~= 'active' or epoch ~= ARGV[2] or step ~= 'queued' then return {'STALE'} end
local was = told and cjson.decode(told)
if was and was.host == ARGV[3] and was.why == ARGV[4] then return {'SAME'} end
local waiting = cjson.encode({host = ARGV[3], why = ARGV[4], since = now()})
redis.call('HSET', record, 'waiting', waiting)
show(ARGV[5], ARGV[6], ARGV[7])
event('waiting', waiting)
return {'OK'}
