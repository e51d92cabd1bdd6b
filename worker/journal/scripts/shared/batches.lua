-- Batches: what the end of a migration means for the batch that asked for it, and what else moves a batch on.
-- A move is in exactly one place: open (it waits), asked (it has a migration), or it has its final state in fates.

local PARTS = {'items', 'fates', 'open', 'ready', 'lanes', 'load', 'wait', 'then', 'asked', 'failed', 'depends',
  'cancelled', 'doomed', 'again', 'tries', 'plan', 'events', 'controls'}

local function of_batch(batch, part)
  return prefix .. 'b:' .. batch .. (part and ':' .. part or '')
end

local function batch_event(batch, kind, data)
  redis.call('XADD', of_batch(batch, 'events'), 'MAXLEN', '~', 10000, '*', 'type', kind, 'data', cjson.encode(data))
end

-- Whatever a receipt follows from has changed.
local function revise(batch)
  redis.call('HINCRBY', of_batch(batch), 'revision', 1)
end

local function item(batch, n)
  return cjson.decode(redis.call('HGET', of_batch(batch, 'items'), n))
end

-- Moves of one lane compete for the same slots, and wait in its order.
local function lane_of(move)
  return (move.source or '') .. '>' .. move.destination
end

local function place(lane, n)
  return lane .. '\n' .. string.format('%05d', n)
end

-- A move that waits for nobody takes its place in its lane.
local function item_ready(batch, n, move)
  local lane = lane_of(move or item(batch, n))
  redis.call('ZADD', of_batch(batch, 'ready'), 0, place(lane, n))
  redis.call('ZADD', of_batch(batch, 'lanes'), 'NX', 0, lane)
end

-- The migration that move n is asked for with now.
local function migration_of(batch, n)
  local try = redis.call('HGET', of_batch(batch, 'tries'), n)
  return batch .. '.' .. n .. (try and '.' .. try or '')
end

-- Whether it is the turn of a move, of a batch that runs, to become this migration.
local function item_turn(batch, n, migration)
  return redis.call('HGET', of_batch(batch), 'state') == 'running' and redis.call('ZSCORE', of_batch(batch, 'open'), n)
    and redis.call('HEXISTS', of_batch(batch, 'doomed'), n) == 0
    and tonumber(redis.call('HGET', of_batch(batch, 'wait'), n) or 0) == 0 and migration_of(batch, n) == migration
end

local function item_taken(batch, n, move)
  redis.call('ZREM', of_batch(batch, 'open'), n)
  redis.call('ZREM', of_batch(batch, 'ready'), place(lane_of(move), n))
end

-- A move has become a migration, in the step that creates the record.
local function item_asked(batch, n, migration)
  local move = item(batch, n)
  item_taken(batch, n, move)
  redis.call('SADD', of_batch(batch, 'asked'), n)
  redis.call('HINCRBY', of_batch(batch, 'load'), lane_of(move), 1)
  redis.call('HSET', of_batch(batch, 'fates'), n, cjson.encode({state = 'asked', migration = migration}))
  batch_event(batch, 'item-asked', {n = tonumber(n), domain = move.domain, migration = migration})
end

-- A move is asked no more: there is room for another one in its lane.
local function item_back(batch, n, move)
  if redis.call('SREM', of_batch(batch, 'asked'), n) == 0 then return end
  redis.call('HINCRBY', of_batch(batch, 'load'), lane_of(move), -1)
  redis.call('ZADD', of_batch(batch, 'lanes'), 'NX', 0, lane_of(move))
end

-- Those that come after a move: freed where it went well, and otherwise to be skipped, by rounds, some at a time.
local function item_then(batch, n, well)
  for after in string.gmatch(redis.call('HGET', of_batch(batch, 'then'), n) or '', '%d+') do
    if well then
      local left = redis.call('HINCRBY', of_batch(batch, 'wait'), after, -1)
      if left == 0 and redis.call('ZSCORE', of_batch(batch, 'open'), after) then item_ready(batch, after) end
    elseif redis.call('ZSCORE', of_batch(batch, 'open'), after) then
      redis.call('HSETNX', of_batch(batch, 'doomed'), after, n)
    end
  end
end

-- Whether a plan's guest has left its host by other ways: that is no failure, and its room is free all the same.
local function has_left(batch, code)
  return code == 'domain-elsewhere' and redis.call('HGET', of_batch(batch), 'kind') ~= 'list'
end

-- The final state of a move: moved, failed or skipped.
local function item_settled(batch, n, state, migration, code, why)
  local move = item(batch, n)
  item_taken(batch, n, move)
  item_back(batch, n, move)
  redis.call('HDEL', of_batch(batch, 'doomed'), n)
  redis.call('HSET', of_batch(batch, 'fates'), n,
    cjson.encode({state = state, migration = migration, code = code, why = why}))
  redis.call('HINCRBY', of_batch(batch), state, 1)
  redis.call('HSET', of_batch(batch), 'last', now())
  -- What was to go to a host that was cordoned meanwhile has not failed by itself: another plan sends it elsewhere.
  if code == 'depends' or code == 'cordoned' then redis.call('SADD', of_batch(batch, 'depends'), n)
  elseif state == 'failed' then redis.call('SADD', of_batch(batch, 'failed'), n) end
  if code == 'cancelled' and migration ~= '' then redis.call('SADD', of_batch(batch, 'cancelled'), n) end
  redis.call('HINCRBY', prefix .. 'batch-items', redis.call('HGET', of_batch(batch), 'kind') .. ':' .. state, 1)
  revise(batch)
  batch_event(batch, 'item-ended', {n = tonumber(n), domain = move.domain, source = move.source,
    destination = move.destination, state = state, migration = migration, code = code, why = why})
  item_then(batch, n, state == 'moved' or code == 'same-host' or has_left(batch, code))
end

-- One migration has ended, in the step that ends its record.
local function item_ended()
  local batch, n, outcome, reason, why = unpack(redis.call('HMGET', record, 'batch', 'item', 'outcome', 'reason', 'error'))
  if not batch or not redis.call('HEXISTS', of_batch(batch, 'items'), n) then return end
  local fate = redis.call('HGET', of_batch(batch, 'fates'), n)
  local asked = fate and cjson.decode(fate)
  -- What is refused when it is to start was never asked.
  local ours = asked and asked.state == 'asked' and asked.migration == id or item_turn(batch, n, id)
  if not ours then return end
  local state = 'failed'
  if outcome == 'succeeded' then state, reason, why = 'moved', '', '' end
  if outcome == 'cancelled' or reason == 'same-host' or has_left(batch, reason) then state = 'skipped' end
  item_settled(batch, n, state, id, reason or '', why or '')
end

-- The drain that this migration belongs to, or "": of a guest that leaves a drained host, or goes on from a host in
-- between. One that only makes room for it has its home where it was.
local function drain_of()
  local batch, source, uuid = unpack(redis.call('HMGET', record, 'batch', 'source', 'uuid'))
  if not batch then return '' end
  local kind, hosts = unpack(redis.call('HMGET', of_batch(batch), 'kind', 'hosts'))
  if kind ~= 'drain' then return '' end
  for _, host in ipairs(cjson.decode(hosts or '[]')) do
    if host == source then return batch end
  end
  local home = redis.call('HGET', prefix .. 'homes', uuid)
  return home and cjson.decode(home).batch == batch and batch or ''
end

local function batch_kept(batch, seconds)
  for _, part in ipairs(PARTS) do
    if seconds then redis.call('EXPIRE', of_batch(batch, part), seconds)
    else redis.call('PERSIST', of_batch(batch, part)) end
  end
  if seconds then redis.call('EXPIRE', of_batch(batch), seconds) else redis.call('PERSIST', of_batch(batch)) end
end

local function batch_is(batch, state, data)
  redis.call('HSET', of_batch(batch), 'state', state)
  revise(batch)
  batch_event(batch, state, data)
end

-- Nothing of it waits, runs, or is still to be written.
local function batch_quiet(batch)
  local filled, expected = unpack(redis.call('HMGET', of_batch(batch), 'filled', 'expected'))
  return expected and filled == expected and redis.call('ZCARD', of_batch(batch, 'open')) == 0
    and redis.call('SCARD', of_batch(batch, 'asked')) == 0 and redis.call('SCARD', of_batch(batch, 'again')) == 0
end
