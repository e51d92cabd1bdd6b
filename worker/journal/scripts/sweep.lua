-- Slots and places in the queue as the records say: what nobody gave back is given back, and what another version
-- queued or started without them gets them.
-- ARGV: "", terms (JSON), cursor in pending (from the last call; 0 at first)
-- the next cursor, then the ids and slot sets of what was given back
local terms, at, given = cjson.decode(ARGV[2]), now(), {}
local sets = {}
for host in pairs(terms.hosts) do sets[slots(host, 'out')], sets[slots(host, 'in')] = {}, {} end
for network in pairs(networks_of(terms)) do sets[network_slots(network)] = {} end
for _, flow in ipairs(redis.call('HKEYS', prefix .. 'usage')) do sets[flow_slots(flow)] = {} end

local active = {}
for _, ident in ipairs(redis.call('ZRANGE', prefix .. 'active', 0, -1)) do
  active[ident] = true
  local name = prefix .. 'm:' .. ident
  local source, destination, flow, networks = unpack(redis.call('HMGET', name, 'source', 'destination', 'flow', 'networks'))
  local wanted = source and {slots(source, 'out'), slots(destination, 'in')} or {}
  if flow then wanted[#wanted + 1] = flow_slots(flow) end
  if source and not networks then
    local names = {}
    for _, host in ipairs({source, destination}) do
      local network = (terms.hosts[host] or {}).net
      if network then names[#names + 1] = network end
    end
    networks = table.concat(names, ' ')
    if networks ~= '' then redis.call('HSET', name, 'networks', networks) end
  end
  for network in string.gmatch(networks or '', '%S+') do wanted[#wanted + 1] = network_slots(network) end
  for _, key in ipairs(wanted) do redis.call('SADD', key, ident) end
end

for key in pairs(sets) do
  for _, ident in ipairs(redis.call('SMEMBERS', key)) do
    if not active[ident] then
      redis.call('SREM', key, ident)
      if #given < 1000 then given[#given + 1] = ident .. ' ' .. key:sub(#prefix + 1) end
    end
  end
end
for _, ident in ipairs(redis.call('HKEYS', prefix .. 'costs')) do
  if not active[ident] then redis.call('HDEL', prefix .. 'costs', ident) end
end
for _, flow in ipairs(redis.call('HKEYS', prefix .. 'usage')) do
  if past_of(flow, at) < 0.01 and redis.call('EXISTS', flow_slots(flow)) == 0 then
    redis.call('HDEL', prefix .. 'usage', flow)
  end
end

local cursor, found = unpack(redis.call('ZSCAN', prefix .. 'pending', ARGV[3], 'COUNT', 500))
for i = 1, #found, 2 do
  local ident, asked = found[i], found[i + 1]
  local name = prefix .. 'm:' .. ident
  local source, destination, flow, batch, requester, priority = unpack(redis.call('HMGET', name,
    'source', 'destination', 'flow', 'batch', 'requested_by', 'priority'))
  if source and not (flow and redis.call('ZSCORE', lane_key(source, destination, flow), ident)) then
    flow = flow or flow_of(batch, requester, priority)
    redis.call('HSET', name, 'flow', flow)
    queue_up(ident, flow, source, destination, asked)
  end
end
return {cursor, unpack(given)}
