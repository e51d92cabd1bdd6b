-- A batch has come to the end of its plan, and there is something that another one could do.
-- ARGV: id, revision that was looked at, why
-- OK | STALE
local batch = of_batch(id)
local state, revision = unpack(redis.call('HMGET', batch, 'state', 'revision'))
if state ~= 'running' or revision ~= ARGV[2] or not batch_quiet(id) then return {'STALE'} end
redis.call('HINCRBY', batch, 'replans', 1)
redis.call('HDEL', batch, 'expected')
batch_is(id, 'planning', {why = ARGV[3]})
return {'OK'}
