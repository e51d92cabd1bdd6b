-- A new record, waiting for slots.
-- ARGV: id, fields (JSON object), event data, submitter (only it may admit ahead of the rounds)
-- OK | SAME (it exists) | OTHER (it exists, asked for with another request) | BUSY, holder (another migration holds the
-- domain) | TAKEN (the id, by another migration or a batch) | STALE (it is not, or no longer, the turn of the batch's move
-- that it is for)
local fields = cjson.decode(ARGV[2])
local batch, n = fields.batch, fields.item
if redis.call('EXISTS', record) == 1 then
  if batch then return {redis.call('HGET', record, 'batch') ~= batch and 'TAKEN' or 'SAME'} end
  return {same_or_other(fields)}
end
if not batch and redis.call('EXISTS', of_batch(id)) == 1 then return {'TAKEN'} end
if batch and not item_turn(batch, n, id) then return {'STALE'} end
local lock = prefix .. 'vm:' .. fields.uuid
local holder = redis.call('GET', lock)
if holder then return {'BUSY', holder} end
local at = now()
redis.call('SET', lock, id)
store(fields)
redis.call('HSET', record, 'state', 'pending', 'attempt', 0, 'epoch', 0, 'retries', 0, 'created', at,
  'submitter', ARGV[4])
redis.call('ZADD', prefix .. 'pending', at, id)
redis.call('ZADD', prefix .. 'all', at, id)
local flow = flow_of(batch, fields.requested_by, fields.priority)
redis.call('HSET', record, 'flow', flow)
queue_up(id, flow, fields.source, fields.destination, at)
event('accepted', ARGV[3])
if batch then item_asked(batch, n, id) end
return {'OK'}
