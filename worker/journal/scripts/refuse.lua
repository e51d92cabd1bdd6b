-- The record of a request that was rejected: terminal from the start, no domain held.
-- ARGV: id, fields (JSON object), seconds to keep it, event data
-- OK | SAME (it exists)
if redis.call('EXISTS', record) == 1 then return {'SAME'} end
local at = now()
store(cjson.decode(ARGV[2]))
redis.call('HSET', record, 'state', 'ended', 'outcome', 'rejected', 'created', at, 'ended', at, 'attempt', 0)
over(at, ARGV[3], ARGV[4])
return {'OK'}
