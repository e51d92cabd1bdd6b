-- Both slots at once, and the first phase queued.
-- ARGV: id, attempt, baton, outgoing limit, incoming limit, submitter ("" from a round)
-- OK | CORDONED (no attempt starts towards a cordoned host) | FULL, which side | BEHIND (an older one waits) | CLOSED, host (closed() of worker/journal/hosts.py) | STALE, state
local state, attempt, source, destination, epoch =
  unpack(redis.call('HMGET', record, 'state', 'attempt', 'source', 'destination', 'epoch'))
if state ~= 'pending' and state ~= 'backoff' then return {'STALE', state or 'gone'} end
if tonumber(attempt) + 1 ~= tonumber(ARGV[2]) then return {'STALE', state} end
if redis.call('HEXISTS', prefix .. 'cordons', destination) == 1 then return {'CORDONED'} end
if ARGV[6] ~= '' then
  -- Another request under the same id: its baton is not what the record says.
  if redis.call('HGET', record, 'submitter') ~= ARGV[6] then return {'STALE', state} end
  local oldest = redis.call('ZRANGE', prefix .. 'pending', 0, 0)
  if oldest[1] and oldest[1] ~= id then return {'BEHIND'} end
  for _, host in ipairs({source, destination}) do
    local agent = redis.call('GET', prefix .. 'lease:' .. host)
    local card = agent and cjson.decode(agent)
    if not card or card.draining or card.answers == false then return {'CLOSED', host} end
  end
end
if redis.call('SCARD', slots(source, 'out')) >= tonumber(ARGV[4]) then return {'FULL', 'source'} end
if redis.call('SCARD', slots(destination, 'in')) >= tonumber(ARGV[5]) then return {'FULL', 'destination'} end
local at = now()
redis.call('SADD', slots(source, 'out'), id)
redis.call('SADD', slots(destination, 'in'), id)
leave('pending', 'due')
redis.call('ZADD', prefix .. 'active', at, id)
redis.call('ZADD', prefix .. 'outbox', at + 2000, id)
redis.call('HSET', record, 'state', 'active', 'attempt', ARGV[2], 'epoch', epoch + 1,
  'phase', 'begin', 'step', 'queued', 'queued', exact(), 'host', source, 'baton', ARGV[3])
redis.call('HSETNX', record, 'started', at)
event('started', '{"attempt":' .. ARGV[2] .. '}')
return {'OK'}
