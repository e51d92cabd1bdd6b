-- Slots: which migrations touch a host, a migration network or everything now, and how many may.
-- What the settings say of that is handed in as `terms` (worker/terms.py); what was changed while everything
-- runs, in the hash `limits`, stands above it.

local function slots(host, direction)
  return prefix .. 'slots:' .. host .. ':' .. direction
end

local function network_slots(network) return slots('@' .. network, 'net') end
local function flow_slots(flow) return slots('#' .. flow, 'run') end

local heavy -- id -> cost of those that count more than 1, read once in a call

-- How many slots of a set are taken.
local function used(key)
  if not heavy then
    heavy = {}
    local costs = redis.call('HGETALL', prefix .. 'costs')
    for i = 1, #costs, 2 do heavy[costs[i]] = tonumber(costs[i + 1]) end
  end
  local number = redis.call('SCARD', key)
  if number == 0 or not next(heavy) then return number end
  for _, member in ipairs(redis.call('SMEMBERS', key)) do
    if heavy[member] then number = number + heavy[member] - 1 end
  end
  return number
end

local cards = {}

-- What the agent of a host tells of itself, or false.
local function card_of(host)
  if cards[host] == nil then
    local text = redis.call('GET', prefix .. 'lease:' .. host)
    cards[host] = text and cjson.decode(text) or false
  end
  return cards[host]
end

-- Whether no attempt starts from or towards a host (closed() of worker/journal/hosts.py).
local function closed(host)
  local card = card_of(host)
  return not card or card.draining or card.answers == false
end

local function set_limit(field, otherwise)
  return tonumber(redis.call('HGET', prefix .. 'limits', field) or otherwise)
end

-- What a host allows at once. Both directions together never get more than its agent has threads for, besides the
-- four that stay free for finish and confirm: where they ask for more they share these in proportion.
local function host_limits(terms, host)
  local own = terms.hosts[host]
  if not own then return {out = 0, ['in'] = 0} end
  local out, into = set_limit('out:' .. host, own.out), set_limit('in:' .. host, own['in'])
  local threads = (card_of(host) or {}).threads
  local most = threads and threads - 4 or own.out + own['in']
  if out + into <= most then return {out = out, ['in'] = into, most = most} end
  local share = math.floor(out * most / (out + into) + 0.5)
  if into > 0 then share = math.min(share, most - 1) end
  if out > 0 then share = math.max(share, math.min(most, 1)) end
  share = math.min(out, share)
  return {out = share, ['in'] = math.min(into, most - share), most = most}
end

-- All networks, by name; those without a limit, too.
local function networks_of(terms)
  local names = {}
  for network in pairs(terms.nets) do names[network] = true end
  for _, own in pairs(terms.hosts) do
    if own.net then names[own.net] = true end
  end
  return names
end

-- A slot set: what is taken of it, and of what; `plain` is the limit for whoever is not urgent.
local function pool(name, taken, limit, kept)
  return {name = name, used = taken, limit = limit, plain = limit > kept and limit - kept or limit}
end

-- Those of one call, by name, so that each is counted once.
local function host_pool(terms, pools, host, direction)
  local key = slots(host, direction)
  if not pools[key] then
    pools[key] = pool(direction == 'out' and 'source' or 'destination', used(key), host_limits(terms, host)[direction],
      terms.urgent)
  end
  return pools[key]
end

local function network_pool(terms, pools, network)
  local key = network_slots(network)
  if not pools[key] then
    local limit = set_limit('net:' .. network, terms.nets[network]) or math.huge
    pools[key] = pool('network ' .. network, used(key), limit, 0)
    pools[key].network = network
  end
  return pools[key]
end

local function cluster_pool(terms, pools)
  if not pools.all then
    local limit = set_limit('all', terms.all) or math.huge
    pools.all = pool('cluster', redis.call('ZCARD', prefix .. 'active'), limit, 0)
    pools.all.single = true -- everything counts one
  end
  return pools.all
end

-- All that a migration needs a slot of.
local function pools_of(terms, pools, source, destination)
  local found = {host_pool(terms, pools, source, 'out'), host_pool(terms, pools, destination, 'in')}
  local from, to = (terms.hosts[source] or {}).net, (terms.hosts[destination] or {}).net
  if from then found[#found + 1] = network_pool(terms, pools, from) end
  if to and to ~= from then found[#found + 1] = network_pool(terms, pools, to) end
  found[#found + 1] = cluster_pool(terms, pools)
  return found
end

-- What a migration costs here, which is never more than the least of its limits, so that it can run at all; or nil and
-- the pool without room. `who` is the lane that asks: what is kept for another one (queue.lua) it does not get.
local function fits(pools, cost, urgent, who)
  for _, pool in ipairs(pools) do
    if not pool.single then cost = math.min(cost, urgent and pool.limit or pool.plain) end
  end
  for _, pool in ipairs(pools) do
    local limit = urgent and pool.limit or pool.plain
    if pool.keeper and pool.keeper ~= who and (pool.strict or not urgent) then limit = limit - pool.kept end
    if limit < 1 or pool.used + (pool.single and 1 or cost) > limit then return nil, pool end
  end
  return cost
end

local function occupy(pools, cost)
  for _, pool in ipairs(pools) do pool.used = pool.used + (pool.single and 1 or cost) end
end

-- The migration touches its hosts from now on; where it did already this changes nothing.
local function take(source, destination)
  local flow, networks, held, cost = unpack(redis.call('HMGET', record, 'flow', 'networks', 'held', 'cost'))
  redis.call('SADD', slots(source, 'out'), id)
  redis.call('SADD', slots(destination, 'in'), id)
  for network in string.gmatch(networks or '', '%S+') do redis.call('SADD', network_slots(network), id) end
  if flow then
    redis.call('SADD', flow_slots(flow), id)
    redis.call('HSETNX', prefix .. 'usage', flow, '0 0')
  end
  local weighs = tonumber(held or cost or 1)
  if weighs > 1 then redis.call('HSET', prefix .. 'costs', id, weighs) end
end

local half_life

-- What a flow (queue.lua) has used up to now, besides what runs.
local function past_of(flow, at)
  local past, since = string.match(redis.call('HGET', prefix .. 'usage', flow) or '0 0', '(%S+) (%S+)')
  half_life = half_life or tonumber(redis.call('GET', prefix .. 'half-life') or 60000)
  return tonumber(past) * 2 ^ ((tonumber(since) - at) / half_life)
end

-- The migration touches no host any more: others may use its slots.
local function release(source, destination)
  local flow, networks = unpack(redis.call('HMGET', record, 'flow', 'networks'))
  redis.call('SREM', slots(source, 'out'), id)
  redis.call('SREM', slots(destination, 'in'), id)
  for network in string.gmatch(networks or '', '%S+') do redis.call('SREM', network_slots(network), id) end
  if flow and redis.call('SREM', flow_slots(flow), id) == 1 then
    local at, cost = now(), tonumber(redis.call('HGET', prefix .. 'costs', id) or 1)
    redis.call('HSET', prefix .. 'usage', flow, string.format('%.4f %.0f', past_of(flow, at) + cost, at))
  end
  redis.call('HDEL', prefix .. 'costs', id)
end
