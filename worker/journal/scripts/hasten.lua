-- The next attempt of a migration that failed for now may start at once.
-- ARGV: id, event data
-- OK | SAME (it is due already) | STALE, state (it does not wait for its next attempt)
local state = redis.call('HGET', record, 'state')
local due, at = redis.call('ZSCORE', prefix .. 'due', id), now()
if state ~= 'backoff' or not due then return {'STALE', state or ''} end
if tonumber(due) <= at then return {'SAME'} end
redis.call('ZADD', prefix .. 'due', at, id)
event('hastened', ARGV[2])
return {'OK'}
