-- A new batch, which the leading scheduler plans, or fills with what is to be moved.
-- ARGV: id, fields (JSON object; among them digest, of the whole request), what is to be moved (JSON, "" where that is
--       to be planned), how many moves that is, event data (JSON object)
-- OK | SAME, state (it exists, asked for with the same request) | EXISTS (another batch or a migration has this id)
local batch, fields = of_batch(id), cjson.decode(ARGV[2])
local state, digest = unpack(redis.call('HMGET', batch, 'state', 'digest'))
if state and digest == fields.digest then return {'SAME', state} end
if state and state ~= 'finished' then batch_event(id, 'conflict', {by = fields.requested_by or ''}) end
if state or redis.call('EXISTS', record) == 1 then return {'EXISTS'} end
local at = now()
for name, value in pairs(fields) do redis.call('HSET', batch, name, value) end
redis.call('HSET', batch, 'state', 'planning', 'created', at, 'revision', 0, 'plans', 0, 'filled', 0)
if ARGV[3] ~= '' then
  redis.call('SET', of_batch(id, 'plan'), ARGV[3])
  redis.call('HSET', batch, 'expected', ARGV[4])
end
redis.call('ZADD', prefix .. 'batches', at, id)
redis.call('ZADD', prefix .. 'batches:all', at, id)
batch_event(id, 'created', cjson.decode(ARGV[5]))
return {'OK'}
