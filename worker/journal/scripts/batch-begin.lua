-- A batch that is filled begins, or waits for an operator who wanted to see the plan first, or paused it meanwhile.
-- ARGV: id, event data (JSON object)
-- OK, state | STALE
local batch = of_batch(id)
local state, filled, expected, hold, started = unpack(redis.call('HMGET', batch, 'state', 'filled', 'expected', 'hold', 'started'))
if state ~= 'planning' or not expected or filled ~= expected then return {'STALE'} end
if redis.call('SCARD', of_batch(id, 'again')) > 0 then return {'STALE'} end
if not hold then redis.call('HSETNX', batch, 'started', now()) end
state = hold and (started and 'paused' or 'planned') or 'running'
batch_is(id, state, cjson.decode(ARGV[2]))
return {'OK', state}
