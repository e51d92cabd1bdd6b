-- The last phase is over and the outcome known. Answers OK exactly once in a migration's life.
-- ARGV: id, token, phase result (JSON), fields (JSON object), seconds to keep it, event data,
--       moved ("1": the domain now belongs to the destination), domain (JSON of it there)
-- OK, the record | SAME, the record (ended already by this token) | STALE
local state, phase, step, token, attempt, done, source, destination, uuid, name =
  unpack(redis.call('HMGET', record, 'state', 'phase', 'step', 'token', 'attempt', 'done', 'source', 'destination', 'uuid', 'domain'))
if state == 'ended' and done == ARGV[2] then return {'SAME', redis.call('HGETALL', record)} end
if state ~= 'active' or step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
redis.call('HSET', record, 'phase:' .. attempt .. ':' .. phase, ARGV[3], 'done', token)
event('phase-ended', ARGV[3])
if ARGV[7] == '1' then
  local here = cjson.decode(ARGV[8])
  redis.call('HDEL', prefix .. 'domains:' .. source, name, '/' .. uuid)
  redis.call('HSET', prefix .. 'domains:' .. destination, here.name, ARGV[8], '/' .. uuid, here.name)
  redis.call('INCR', prefix .. 'domains:' .. source .. ':v')
  redis.call('INCR', prefix .. 'domains:' .. destination .. ':v')
end
local fields, warned = cjson.decode(ARGV[4]), redis.call('HGET', record, 'warning')
if warned and fields.warning then fields.warning = warned .. '; ' .. fields.warning end
conclude(fields, ARGV[5], ARGV[6])
return {'OK', redis.call('HGETALL', record)}
