-- A transient error is about to be retried inside a phase.
-- ARGV: id, token, event data
-- OK | STALE
if redis.call('HGET', record, 'token') ~= ARGV[2] then return {'STALE'} end
redis.call('HINCRBY', record, 'retries', 1)
event('retry', ARGV[3])
return {'OK'}
