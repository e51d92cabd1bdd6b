-- What an operator wants of a batch. The same message, delivered again, changes nothing.
-- ARGV: id, action (pause, resume, cancel or retry), "1" to cancel also what runs, by, id of the message
-- OK, state | SAME, state (it is so already) | OVER, state (too late for it) | NONE, state (nothing to retry) | GONE
local batch, action, by = of_batch(id), ARGV[2], ARGV[4]
local state, kind, hold = unpack(redis.call('HMGET', batch, 'state', 'kind', 'hold'))
if not state then return {'GONE'} end
local controls = of_batch(id, 'controls')
if redis.call('SISMEMBER', controls, ARGV[5]) == 1 then return {'SAME', state} end

local function is(new, more)
  redis.call('SADD', controls, ARGV[5])
  if new ~= state then batch_is(id, new, {by = by}) else batch_event(id, action, {by = by}) end
  state = new
  return {'OK', state}
end

if action == 'pause' then
  if state == 'running' then return is('paused') end
  if state == 'planning' and not hold then
    redis.call('HSET', batch, 'hold', '1')
    return is('planning')
  end
  return {(state == 'cancelling' or state == 'finished') and 'OVER' or 'SAME', state}
end
if action == 'resume' then
  if state == 'paused' or state == 'planned' then
    redis.call('HDEL', batch, 'hold')
    redis.call('HSETNX', batch, 'started', now())
    return is('running')
  end
  if state == 'planning' and hold then
    redis.call('HDEL', batch, 'hold')
    return is('planning')
  end
  return {(state == 'cancelling' or state == 'finished') and 'OVER' or 'SAME', state}
end
if action == 'cancel' then
  if state == 'finished' then return {'OVER', state} end
  local aborts = ARGV[3] == '1' and redis.call('HSETNX', batch, 'abort', '1') == 1
  if state == 'cancelling' and not aborts then return {'SAME', state} end
  redis.call('HSETNX', batch, 'expected', redis.call('HGET', batch, 'filled'))
  return is('cancelling')
end
-- retry
if state == 'planning' or state == 'cancelling' or (kind ~= 'list' and state ~= 'finished') then return {'OVER', state} end
local again, failed, depends = of_batch(id, 'again'), of_batch(id, 'failed'), of_batch(id, 'depends')
local exhausted = redis.call('HEXISTS', batch, 'exhausted') == 1
if redis.call('SCARD', failed) + redis.call('SCARD', depends) == 0 and not exhausted then return {'NONE', state} end
if state == 'finished' then
  batch_kept(id)
  redis.call('ZREM', prefix .. 'batches:ended', id)
  redis.call('ZADD', prefix .. 'batches', now(), id)
  redis.call('HDEL', batch, 'ended', 'abort', 'hold', 'exhausted')
end
if kind == 'list' then
  redis.call('SUNIONSTORE', again, again, failed, depends)
  redis.call('DEL', failed, depends)
  return is(state == 'finished' and 'running' or state)
end
redis.call('HSET', batch, 'renew', '1', 'replans', 0)
redis.call('HDEL', batch, 'expected')
return is('planning')
