-- The attempt failed and the domain is safe: another one after a pause.
-- ARGV: id, token, phase result (JSON), fields (JSON object), pause in milliseconds, event data,
--       result key, result text, seconds to keep it
-- OK | SAME | STALE
local state, phase, step, token, attempt, done, source, destination =
  unpack(redis.call('HMGET', record, 'state', 'phase', 'step', 'token', 'attempt', 'done', 'source', 'destination'))
if state == 'backoff' and done == ARGV[2] then return {'SAME'} end
if state ~= 'active' or step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
redis.call('HSET', record, 'phase:' .. attempt .. ':' .. phase, ARGV[3], 'done', token, 'state', 'backoff')
redis.call('HDEL', record, 'token', 'incarnation', 'baton', 'step', 'phase', 'host', 'waiting', 'progress')
store(cjson.decode(ARGV[4]))
release(source, destination)
leave('active', 'outbox')
redis.call('ZADD', prefix .. 'due', now() + tonumber(ARGV[5]), id)
event('phase-ended', ARGV[3])
event('backoff', ARGV[6])
show(ARGV[7], ARGV[8], ARGV[9])
return {'OK'}
