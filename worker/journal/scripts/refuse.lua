-- The record of a request that was rejected: terminal from the start, no domain held.
-- ARGV: id, fields (JSON object), seconds to keep it, event data
-- OK | SAME (it exists) | STALE (it is not the turn of the batch's move that it is for)
if redis.call('EXISTS', record) == 1 then return {'SAME'} end
local at, fields = now(), cjson.decode(ARGV[2])
if fields.batch and not item_turn(fields.batch, fields.item, id) then return {'STALE'} end
store(fields)
redis.call('HSET', record, 'state', 'ended', 'outcome', 'rejected', 'created', at, 'ended', at, 'attempt', 0)
over(at, ARGV[3], ARGV[4])
return {'OK'}
