-- All slots at once, and the first phase queued.
-- ARGV: id, attempt, baton, terms (JSON), submitter ("" from a round)
-- OK, milliseconds since it was asked for | CORDONED (no attempt starts towards a cordoned host) | FULL, what is |
-- BEHIND (others wait) | CLOSED, host (closed() of worker/journal/hosts.py) | STALE, state
local state, attempt, source, destination, epoch, flow, cost, created =
  unpack(redis.call('HMGET', record, 'state', 'attempt', 'source', 'destination', 'epoch', 'flow', 'cost', 'created'))
if state ~= 'pending' and state ~= 'backoff' then return {'STALE', state or 'gone'} end
if tonumber(attempt) + 1 ~= tonumber(ARGV[2]) then return {'STALE', state} end
if redis.call('HEXISTS', prefix .. 'cordons', destination) == 1 then return {'CORDONED'} end
if ARGV[5] ~= '' then
  -- Another request under the same id: its baton is not what the record says.
  if redis.call('HGET', record, 'submitter') ~= ARGV[5] then return {'STALE', state} end
  local oldest = redis.call('ZRANGE', prefix .. 'pending', 0, 0)
  if oldest[1] and oldest[1] ~= id then return {'BEHIND'} end
  if redis.call('ZCOUNT', prefix .. 'due', 0, 0) > 0 then return {'BEHIND'} end
  for _, host in ipairs({source, destination}) do
    if closed(host) then return {'CLOSED', host} end
  end
end
local terms, at = cjson.decode(ARGV[4]), now()
local pools = pools_of(terms, {}, source, destination)
local urgent = flow and priority_of(flow) == 'urgent'
local held, full = fits(pools, tonumber(cost or 1), urgent)
if not held then return {'FULL', full.name} end
occupy(pools, held)
local names = {source = 'outgoing', destination = 'incoming', cluster = 'migrations'}
local told, networks = {attempt = tonumber(ARGV[2]), cost = held}, {}
for _, needed in ipairs(pools) do
  if needed.network then networks[#networks + 1] = needed.network end
  -- How much room there was is told with the start: the events alone show that no limit was ever passed.
  if needed.limit < math.huge then told[names[needed.name] or needed.name] = {needed.used, needed.limit} end
end
redis.call('SET', prefix .. 'half-life', terms.half_life)
wait_no_more(source, destination, terms)
redis.call('ZADD', prefix .. 'active', at, id)
redis.call('ZADD', prefix .. 'outbox', at + 2000, id)
redis.call('HSET', record, 'state', 'active', 'attempt', ARGV[2], 'epoch', epoch + 1,
  'phase', 'begin', 'step', 'queued', 'queued', exact(), 'host', source, 'baton', ARGV[3])
redis.call('HSETNX', record, 'started', at)
if #networks > 0 then redis.call('HSET', record, 'networks', table.concat(networks, ' ')) end
if cost then redis.call('HSET', record, 'held', held) end
take(source, destination)
event('started', cjson.encode(told))
return {'OK', at - created}
