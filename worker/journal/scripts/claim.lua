-- One agent takes one phase of one attempt, before it calls the hypervisor.
-- ARGV: id, attempt, epoch, phase, baton, token, host, result key, result text, seconds to keep it, incarnation
-- OK, cancel ("1" or ""), milliseconds it was queued (the same again to its own token) | CONFLICT | STALE | FORGED
local state, attempt, epoch, phase, step, baton, token, cancel, queued =
  unpack(redis.call('HMGET', record, 'state', 'attempt', 'epoch', 'phase', 'step', 'baton', 'token', 'cancel', 'queued'))
if state ~= 'active' or attempt ~= ARGV[2] or epoch ~= ARGV[3] or phase ~= ARGV[4] then return {'STALE'} end
if step == 'running' then
  if token == ARGV[6] then return {'OK', cancel or '', 0} end
  return {'CONFLICT'}
end
if baton ~= ARGV[5] then return {'FORGED'} end
local at = now()
redis.call('HSET', record, 'step', 'running', 'token', ARGV[6], 'owner', ARGV[7], 'incarnation', ARGV[11], 'claimed', at)
-- A recovery that waits looks again and again, and goes on waiting until it can do something (advance.lua).
local waits = phase == 'recover' and redis.call('HEXISTS', record, 'waiting') == 1
if not waits then redis.call('HDEL', record, 'waiting') end
redis.call('ZREM', prefix .. 'outbox', id)
redis.call('ZADD', prefix .. 'active', at, id)
show(ARGV[8], ARGV[9], ARGV[10])
local before = waits and redis.call('HGET', record, 'phase:' .. attempt .. ':recover')
if not before or not cjson.decode(before).idle then event('phase', '{"attempt":' .. attempt .. ',"phase":"' .. phase .. '","host":"' .. ARGV[7] .. '"}') end
return {'OK', cancel or '', string.format('%.3f', exact() - tonumber(queued))}
