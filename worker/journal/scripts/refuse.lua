-- The record of a request that was rejected: terminal from the start, no domain held.
-- ARGV: id, fields (JSON object), seconds to keep it, event data
-- OK | SAME (it exists)
if redis.call('EXISTS', record) == 1 then return {'SAME'} end
local at = now()
store(cjson.decode(ARGV[2]))
redis.call('HSET', record, 'state', 'ended', 'outcome', 'rejected', 'created', at, 'ended', at, 'attempt', 0)
redis.call('ZADD', prefix .. 'ended', at, id)
event('ended', ARGV[4])
redis.call('EXPIRE', record, ARGV[3])
redis.call('EXPIRE', record .. ':events', ARGV[3])
return {'OK'}
