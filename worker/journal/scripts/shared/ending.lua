-- The end of a migration, whatever ended it.

-- One migration has ended: called in the step that ends its record, so once in its life. Bounded, as labels must be.
local function count(driver, flags, outcome, reason)
  local counts, sets = prefix .. 'outcomes', prefix .. 'flagsets'
  if redis.call('SISMEMBER', sets, flags) == 0 then
    if redis.call('SCARD', sets) < 64 then redis.call('SADD', sets, flags) else flags = 'other' end
  end
  local field = cjson.encode({driver, flags, outcome, reason})
  if redis.call('HEXISTS', counts, field) == 0 and redis.call('HLEN', counts) >= 1000 then
    field = cjson.encode({driver, 'other', outcome, 'other'})
  end
  redis.call('HINCRBY', counts, field, 1)
end

-- The record is terminal from now on, whatever ended it.
local function over(at, keep_seconds, data)
  local driver, flags, outcome, reason, source, destination = unpack(redis.call('HMGET', record, 'driver', 'flags_label',
    'outcome', 'reason', 'source', 'destination'))
  count(driver or '', flags or '', outcome, reason or '')
  redis.call('ZADD', prefix .. 'ended', at, id)
  redis.call('ZADD', prefix .. 'unshown', at, id)
  tell(outcome, 'migration.' .. outcome, id, at, source, destination)
  event('ended', data)
  item_ended()
  redis.call('EXPIRE', record, keep_seconds)
  redis.call('EXPIRE', record .. ':events', keep_seconds)
end

-- Ends a record that was accepted.
local function conclude(fields, keep_seconds, data)
  local uuid, source, destination, domain = unpack(redis.call('HMGET', record, 'uuid', 'source', 'destination', 'domain'))
  local at = now()
  release(source, destination)
  wait_no_more(source, destination)
  leave('active', 'outbox', 'doubt')
  if redis.call('GET', prefix .. 'vm:' .. uuid) == id then redis.call('DEL', prefix .. 'vm:' .. uuid) end
  redis.call('HDEL', record, 'reason', 'error', 'error_phase') -- of the time when it was in doubt
  store(fields)
  if fields.outcome == 'succeeded' then settle(uuid, domain, source, destination, drain_of()) end
  redis.call('HSET', record, 'state', 'ended', 'ended', at)
  redis.call('HDEL', record, 'baton', 'token', 'step', 'waiting')
  redis.call('DEL', record .. ':tunings')
  over(at, keep_seconds, data)
end
