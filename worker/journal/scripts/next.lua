-- Who starts next: flows in the order of what they have used, and what has waited too long before all of them.
-- Besides its answer it only lets those stand in line whose next attempt is due.
-- ARGV: "", terms (JSON), how many at most
-- a list of ids
local terms, most, at = cjson.decode(ARGV[2]), tonumber(ARGV[3]), now()
local pools, lanes, chosen, of_flow = {}, {}, {}, {}


-- What waited for its next attempt stands in line again; due from then on says 0.
local function readmit(ident)
  local name = prefix .. 'm:' .. ident
  local source, destination, flow, batch, requester, priority, created = unpack(redis.call('HMGET', name,
    'source', 'destination', 'flow', 'batch', 'requested_by', 'priority', 'created'))
  if not source then return end
  if not flow then
    flow = flow_of(batch, requester, priority)
    redis.call('HSET', name, 'flow', flow)
  end
  queue_up(ident, flow, source, destination, created)
  redis.call('ZADD', prefix .. 'due', 0, ident)
end

local function lane(source, destination, flow)
  local key = lane_key(source, destination, flow)
  lanes[key] = lanes[key] or {key = key, source = source, destination = destination, flow = flow, taken = 0,
    urgent = priority_of(flow) == 'urgent'}
  return lanes[key]
end

-- The first of a lane that was not chosen in this call: its id, what it costs, when it was asked for. What an older
-- version started or ended is in its lane still, and goes.
local function first_of(of)
  while true do
    local found = redis.call('ZRANGE', of.key, of.taken, of.taken, 'WITHSCORES')
    if not found[1] then return end
    local state, cost = unpack(redis.call('HMGET', prefix .. 'm:' .. found[1], 'state', 'cost'))
    if state == 'pending' or state == 'backoff' then return found[1], tonumber(cost or 1), tonumber(found[2]) end
    unqueue(found[1], of.flow, of.source, of.destination, terms)
  end
end

-- Choose the first of a lane if there is room for it: what it costs there, or nothing.
local function choose(of, needed)
  if not fits(needed, 1, of.urgent, of.key) then return end
  local ident, asked = first_of(of)
  local cost = ident and fits(needed, asked, of.urgent, of.key)
  if not cost then return end
  occupy(needed, cost)
  of.taken = of.taken + 1
  chosen[#chosen + 1] = ident
  of_flow[of.flow] = (of_flow[of.flow] or 0) + cost
  return cost
end

-- Keep what a lane needs that has waited too long: both hosts, as much as it costs, and its networks once only they are
-- missing. One lane for each of them, and all of it or nothing, so that the longest wait always ends.
local function keep_room(of, needed, strict)
  local _, asked = first_of(of)
  if not asked then return end
  local hosts_have_room = true
  for index, one in ipairs(needed) do
    if one.keeper or one.plain < 1 then return end
    if index <= 2 and one.used + math.min(asked, one.plain) > one.plain then hosts_have_room = false end
  end
  for index, one in ipairs(needed) do
    if index <= 2 or (one.network and hosts_have_room) then
      one.keeper, one.kept, one.strict = of.key, math.min(asked, one.plain), strict
    end
  end
end

-- The lane whose turn it is in a line.
local function first_lane(source, flow)
  for _, destination in ipairs(redis.call('ZRANGE', line_key(source, flow), 0, -1)) do
    if not takes_none(terms, destination) then return lane(source, destination, flow) end
  end
end

local flows, waiting = {}, {} -- by name; and lines in which the same one has had its turn for too long
local function gather(source)
  local key, out = prefix .. 'flows:' .. source, host_pool(terms, pools, source, 'out')
  local aged = redis.call('ZRANGEBYSCORE', key, '-inf', at - terms.ageing, 'WITHSCORES', 'LIMIT', 0, 16)
  for i = 1, #aged, 2 do
    waiting[#waiting + 1] = {source = source, flow = aged[i], since = tonumber(aged[i + 1])}
  end
  if out.used >= out.limit then return end
  local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    local flow = flows[all[i]] or {name = all[i], sources = {}, since = math.huge}
    flow.sources[#flow.sources + 1] = source
    flow.since = math.min(flow.since, tonumber(all[i + 1]))
    flows[all[i]] = flow
  end
end

local function rank(flow)
  flow.rank = math.max(flow.used, LEAST_USAGE) / flow.weight
end

-- Those that go later come first: the end of a list is cheap to take from.
local function later(one, other)
  if one.rank ~= other.rank then return one.rank > other.rank end
  if one.weight ~= other.weight then return one.weight < other.weight end
  if one.since ~= other.since then return one.since > other.since end
  return one.name > other.name
end

local function later_lane(one, other)
  if one.asked ~= other.asked then return one.asked > other.asked end
  return one.key > other.key
end

-- Put an element where it belongs in a sorted list, near whose end that most likely is.
local function insert(list, element, after)
  local index = #list
  while index > 0 and not after(list[index], element) do index = index - 1 end
  table.insert(list, index + 1, element)
end

-- The lanes of a flow that may have room, sorted when it is first its turn.
local function open_lanes(flow)
  local open = {}
  for _, source in ipairs(flow.sources) do
    local line = redis.call('ZRANGE', line_key(source, flow.name), 0, -1, 'WITHSCORES')
    for i = 1, #line, 2 do
      if not takes_none(terms, line[i]) then
        local of = lane(source, line[i], flow.name)
        of.asked = tonumber(line[i + 1])
        if fits(pools_of(terms, pools, source, line[i]), 1, of.urgent, of.key) then open[#open + 1] = of end
      end
    end
  end
  table.sort(open, later_lane)
  return open
end

-- Choose one of a flow, the oldest that has room: what it costs, or nothing where none has.
local function choose_of(flow)
  flow.open = flow.open or open_lanes(flow)
  while #flow.open > 0 do
    local of = table.remove(flow.open)
    local cost = choose(of, pools_of(terms, pools, of.source, of.destination))
    if cost then
      local _, _, asked = first_of(of)
      if asked then
        of.asked = asked
        insert(flow.open, of, later_lane)
      end
      return cost
    end
  end
end

redis.call('SET', prefix .. 'half-life', terms.half_life)
for _, late in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'due', '(0', at, 'LIMIT', 0, 500)) do readmit(late) end
for _, source in ipairs(redis.call('SMEMBERS', prefix .. 'sources')) do
  if terms.hosts[source] and not closed(source) then gather(source) end
end

table.sort(waiting, function(one, other)
  if one.since ~= other.since then return one.since < other.since end
  if one.source ~= other.source then return one.source < other.source end
  return one.flow < other.flow
end)
for _, line in ipairs(waiting) do
  local of = #chosen < most and first_lane(line.source, line.flow)
  if of then
    local needed = pools_of(terms, pools, of.source, of.destination)
    if not choose(of, needed) then keep_room(of, needed, line.since <= at - 2 * terms.ageing) end
  end
end

local order = {}
for name, flow in pairs(flows) do
  flow.weight, flow.used = WEIGHTS[priority_of(name)] or WEIGHTS.normal, past_of(name, at) + used(flow_slots(name))
    + (of_flow[name] or 0)
  rank(flow)
  order[#order + 1] = flow
end
table.sort(order, later)
while #chosen < most and #order > 0 do
  local flow = table.remove(order)
  local cost = choose_of(flow)
  if cost then
    flow.used, flow.since = flow.used + cost, at
    rank(flow)
    insert(order, flow, later)
  end
end
return chosen
