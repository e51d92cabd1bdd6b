-- Redis forgot a migration whose phase has just ended: it is there again, for a recovery to find out where it stands.
-- ARGV: id, fields (JSON object), attempt, epoch, host to look first, baton, event data, milliseconds until republished
-- OK | SAME (it is not forgotten) | BUSY, holder
if redis.call('EXISTS', record) == 1 then return {'SAME'} end
local fields = cjson.decode(ARGV[2])
local lock = prefix .. 'vm:' .. fields.uuid
local holder = redis.call('GET', lock)
if holder and holder ~= id then return {'BUSY', holder} end
local at = now()
redis.call('SET', lock, id)
store(fields)
redis.call('HSET', record, 'flow', flow_of(fields.batch, fields.requested_by, fields.priority))
take(fields.source, fields.destination)
redis.call('ZADD', prefix .. 'active', at, id)
redis.call('ZADD', prefix .. 'all', at, id)
redis.call('ZADD', prefix .. 'outbox', at + tonumber(ARGV[8]), id)
redis.call('HSET', record, 'state', 'active', 'attempt', ARGV[3], 'epoch', ARGV[4], 'retries', 0, 'created', at,
  'started', at, 'phase', 'recover', 'step', 'queued', 'host', ARGV[5], 'queued', exact(), 'baton', ARGV[6])
event('restored', ARGV[7])
return {'OK'}
