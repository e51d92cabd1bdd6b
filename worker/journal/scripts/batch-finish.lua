-- A batch is over, and its receipt is what AsyncResult shows from now on: in one step.
-- ARGV: id, revision that the receipt was made of, fields (JSON object), seconds to keep it, result key, result text,
--       seconds to keep that, event data (JSON object)
-- OK | STALE (it goes on)
local batch, at = of_batch(id), now()
local state, revision = unpack(redis.call('HMGET', batch, 'state', 'revision'))
if (state ~= 'running' and state ~= 'cancelling') or revision ~= ARGV[2] or not batch_quiet(id) then return {'STALE'} end
for name, value in pairs(cjson.decode(ARGV[3])) do redis.call('HSET', batch, name, value) end
batch_is(id, 'finished', cjson.decode(ARGV[8]))
redis.call('ZREM', prefix .. 'batches', id)
redis.call('ZADD', prefix .. 'batches:ended', at, id)
tell('batch-finished', 'batch.finished', id, at)
show(ARGV[5], ARGV[6], ARGV[7])
batch_kept(id, ARGV[4])
return {'OK'}
