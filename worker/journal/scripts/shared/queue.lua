-- The queue of what waits for slots: flows, and in each of them lanes.
--
-- A flow is what one batch or one requester asks for, at one priority. The flow goes first that has used the least, for
-- its weight: what runs now, and what ran lately. In a flow those that leave one host stand in a line, in the order in
-- which they were asked for; those between the same two hosts are a lane, of which only the first has to be looked at.

local WEIGHTS = {low = 1, normal = 4, high = 16, urgent = 1024}
-- A flow counts as if it had used so much at least: an idle one does not pass what is urgent.
local LEAST_USAGE = 0.1
-- So many requesters have flows of their own; any more share some.
local MOST_REQUESTERS, SHARED_FLOWS = 256, 64

local function line_key(source, flow) return prefix .. 'line:' .. source .. ':' .. flow end
local function lane_key(source, destination, flow) return prefix .. 'lane:' .. source .. ':' .. destination .. ':' .. flow end

-- The flow of a request.
local function flow_of(batch, requester, priority)
  priority = WEIGHTS[priority] and priority or 'normal'
  if batch and batch ~= '' then return priority .. '/b:' .. batch end
  local who = requester or ''
  if #who > 64 or who:find('[^%w_.@-]') then who = '~' .. redis.sha1hex(who):sub(1, 16) end
  local flow, known = priority .. '/r:' .. who, prefix .. 'requesters'
  if redis.call('HEXISTS', known, flow) == 1 or redis.call('HLEN', known) < MOST_REQUESTERS then return flow end
  return priority .. '/r#' .. tonumber(redis.sha1hex(who):sub(1, 6), 16) % SHARED_FLOWS
end

local function priority_of(flow) return string.match(flow, '^[^/]*') end

local function of_requester(flow, change)
  if not string.find(flow, '/r:', 1, true) then return end
  local known = prefix .. 'requesters'
  if redis.call('HINCRBY', known, flow, change) < 1 then redis.call('HDEL', known, flow) end
end

-- The lane's place in the line is that of its first.
local function place_lane(source, destination, flow)
  local first = redis.call('ZRANGE', lane_key(source, destination, flow), 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', line_key(source, flow), first[2], destination)
  else redis.call('ZREM', line_key(source, flow), destination) end
end

-- A migration stands in its line from now on, at the place of when it was asked for.
local function queue_up(ident, flow, source, destination, asked)
  if redis.call('ZADD', lane_key(source, destination, flow), asked, ident) == 0 then return end
  place_lane(source, destination, flow)
  redis.call('ZADD', prefix .. 'flows:' .. source, 'NX', now(), flow)
  redis.call('SADD', prefix .. 'sources', source)
  of_requester(flow, 1)
end

-- Whether a host takes nothing, for as long as that may be: what is for it holds nobody else up.
local function takes_none(terms, host)
  return closed(host) or (terms and host_limits(terms, host)['in'] < 1)
end

-- Whether it is the turn of this lane in its line: those in front of it are for hosts that take nothing.
local function has_turn(source, destination, flow, terms)
  for _, before in ipairs(redis.call('ZRANGE', line_key(source, flow), 0, -1)) do
    if before == destination then return true end
    if not takes_none(terms, before) then return false end
  end
  return true
end

-- A migration stands in line no more. Where it was its turn, the turn of the next one begins.
local function unqueue(ident, flow, source, destination, terms)
  local lane = lane_key(source, destination, flow)
  local turn = redis.call('ZRANGE', lane, 0, 0)[1] == ident and has_turn(source, destination, flow, terms)
  if redis.call('ZREM', lane, ident) == 0 then return end
  place_lane(source, destination, flow)
  of_requester(flow, -1)
  local flows = prefix .. 'flows:' .. source
  if redis.call('EXISTS', line_key(source, flow)) == 1 then
    if turn then redis.call('ZADD', flows, now(), flow) end
    return
  end
  redis.call('ZREM', flows, flow)
  if redis.call('EXISTS', flows) == 0 then redis.call('SREM', prefix .. 'sources', source) end
end

-- The migration of this call waits no more, for slots or for its next attempt.
local function wait_no_more(source, destination, terms)
  leave('pending', 'due')
  local flow = redis.call('HGET', record, 'flow')
  if flow then unqueue(id, flow, source, destination, terms) end
end
