-- The record of a request that was rejected: terminal from the start, no domain held.
-- ARGV: id, fields (JSON object), seconds to keep it, event data
-- OK | SAME (it exists) | OTHER (it exists, asked for with another request) | TAKEN (the id, by a batch)
-- STALE (it is not the turn of the batch's move that it is for)
local at, fields = now(), cjson.decode(ARGV[2])
if redis.call('EXISTS', record) == 1 then return {fields.batch and 'SAME' or same_or_other(fields)} end
if not fields.batch and redis.call('EXISTS', of_batch(id)) == 1 then return {'TAKEN'} end
if fields.batch and not item_turn(fields.batch, fields.item, id) then return {'STALE'} end
store(fields)
redis.call('HSET', record, 'state', 'ended', 'outcome', 'rejected', 'created', at, 'ended', at, 'attempt', 0)
redis.call('ZADD', prefix .. 'all', at, id)
over(at, ARGV[3], ARGV[4])
return {'OK'}
