-- Nobody carries an attempt on: what was claimed or sent for it is void, and a look at both hosts is queued.
-- ARGV: id, epoch, phase and step that were found, token that was found ("" where none), host to look first, baton,
--       event data, milliseconds until republished, fields (JSON object)
-- OK | STALE (it has gone on since)
local state, epoch, phase, step, token, source, destination =
  unpack(redis.call('HMGET', record, 'state', 'epoch', 'phase', 'step', 'token', 'source', 'destination'))
if state ~= 'active' and state ~= 'in-doubt' then return {'STALE'} end
if epoch ~= ARGV[2] or phase ~= ARGV[3] or (step or '') ~= ARGV[4] or (token or '') ~= ARGV[5] then return {'STALE'} end
local at = now()
take(source, destination)
leave('doubt')
redis.call('ZADD', prefix .. 'active', at, id)
redis.call('ZADD', prefix .. 'outbox', at + tonumber(ARGV[9]), id)
redis.call('HSET', record, 'state', 'active', 'epoch', epoch + 1, 'phase', 'recover', 'step', 'queued',
  'host', ARGV[6], 'queued', exact(), 'baton', ARGV[7])
redis.call('HDEL', record, 'token', 'incarnation', 'waiting', 'reason', 'error')
store(cjson.decode(ARGV[10]))
too_late()
event('recovering', ARGV[8])
return {'OK'}
