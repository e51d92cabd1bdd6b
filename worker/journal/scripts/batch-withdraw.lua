-- A migration of a paused batch that was never started waits no more: it is as if it had not been asked for.
-- ARGV: id of the migration
-- OK | STALE (it was started, or its batch is not paused)
local state, attempt, uuid, batch, n, source, destination =
  unpack(redis.call('HMGET', record, 'state', 'attempt', 'uuid', 'batch', 'item', 'source', 'destination'))
if state ~= 'pending' or attempt ~= '0' or not batch then return {'STALE'} end
if redis.call('HGET', of_batch(batch), 'state') ~= 'paused' then return {'STALE'} end
wait_no_more(source, destination)
if redis.call('GET', prefix .. 'vm:' .. uuid) == id then redis.call('DEL', prefix .. 'vm:' .. uuid) end
redis.call('DEL', record, record .. ':events')
redis.call('ZREM', prefix .. 'all', id)
local move = item(batch, n)
item_back(batch, n, move)
redis.call('HDEL', of_batch(batch, 'fates'), n)
redis.call('ZADD', of_batch(batch, 'open'), n, n)
item_ready(batch, n, move)
batch_event(batch, 'item-withdrawn', {n = tonumber(n), domain = move.domain, migration = id})
return {'OK'}
