-- A batch that was to be planned has a plan. What earlier plans left undone is replaced by it, by rounds.
-- ARGV: id, how many plans it had when planning began, the plan (JSON, "" where none was made), how many moves that is,
--       fields of the batch (JSON object), event data (JSON object)
-- OK | STALE (it was cancelled, or planned by somebody else)
local batch = of_batch(id)
local state, plans, filled, renew = unpack(redis.call('HMGET', batch, 'state', 'plans', 'filled', 'renew'))
if state ~= 'planning' or plans ~= ARGV[2] then return {'STALE'} end
redis.call('HSET', batch, 'expected', filled + ARGV[4], 'base', filled, 'plans', plans + 1)
for name, value in pairs(cjson.decode(ARGV[5])) do redis.call('HSET', batch, name, value) end
if ARGV[3] ~= '' then
  redis.call('SET', of_batch(id, 'plan'), ARGV[3])
  local again, depends, failed = of_batch(id, 'again'), of_batch(id, 'depends'), of_batch(id, 'failed')
  redis.call('SUNIONSTORE', again, again, depends)
  redis.call('DEL', depends)
  if renew then
    redis.call('SUNIONSTORE', again, again, failed)
    redis.call('DEL', failed)
  end
end
redis.call('HDEL', batch, 'renew')
revise(id)
batch_event(id, 'planned', cjson.decode(ARGV[6]))
return {'OK'}
