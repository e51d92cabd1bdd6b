-- Where the domain runs is not known: the record stays, the domain stays held, an operator looks.
-- ARGV: id, token, phase result (JSON), fields (JSON object), event data, result key, result text, seconds to keep it
-- OK | SAME | STALE
local at, state, phase, step, token, attempt, done, source, destination = now(),
  unpack(redis.call('HMGET', record, 'state', 'phase', 'step', 'token', 'attempt', 'done', 'source', 'destination'))
if state == 'in-doubt' and done == ARGV[2] then return {'SAME'} end
if state ~= 'active' or step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
redis.call('HSET', record, 'phase:' .. attempt .. ':' .. phase, ARGV[3], 'done', token, 'state', 'in-doubt')
redis.call('HDEL', record, 'token', 'step', 'waiting')
store(cjson.decode(ARGV[4]))
release(source, destination)
leave('active', 'outbox')
redis.call('ZADD', prefix .. 'doubt', at, id)
tell('in-doubt', 'migration.in-doubt', id, at, source, destination)
event('phase-ended', ARGV[3])
show(ARGV[6], ARGV[7], ARGV[8])
event('in-doubt', ARGV[5])
return {'OK'}
