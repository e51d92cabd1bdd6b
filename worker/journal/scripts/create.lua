-- A new record, waiting for slots.
-- ARGV: id, fields (JSON object), event data, submitter (only it may admit ahead of the rounds)
-- OK | SAME (it exists) | BUSY, holder (another migration holds the domain)
if redis.call('EXISTS', record) == 1 then return {'SAME'} end
local fields = cjson.decode(ARGV[2])
local lock = prefix .. 'vm:' .. fields.uuid
local holder = redis.call('GET', lock)
if holder then return {'BUSY', holder} end
local at = now()
redis.call('SET', lock, id)
store(fields)
redis.call('HSET', record, 'state', 'pending', 'attempt', 0, 'epoch', 0, 'retries', 0, 'created', at,
  'submitter', ARGV[4])
redis.call('ZADD', prefix .. 'pending', at, id)
event('accepted', ARGV[3])
return {'OK'}
