-- Some of the moves that were not made: asked for again (of a list), or replaced by what a new plan has instead.
-- ARGV: id, how many
-- OK, how many
local batch, done = of_batch(id), 0

-- A move before this one that was not made and will not be: this one would wait for ever.
local function hopeless(n)
  for _, before in ipairs(item(id, n).after or {}) do
    local fate = redis.call('HGET', of_batch(id, 'fates'), before)
    local known = fate and cjson.decode(fate)
    if known and known.state == 'skipped' and known.code ~= 'same-host'
      and redis.call('SISMEMBER', of_batch(id, 'again'), before) == 0 then return before end
  end
end

local list = redis.call('HGET', batch, 'kind') == 'list'
for _, n in ipairs(redis.call('SPOP', of_batch(id, 'again'), ARGV[2])) do
  local fate = cjson.decode(redis.call('HGET', of_batch(id, 'fates'), n))
  redis.call('HINCRBY', batch, fate.state, -1)
  if list then
    redis.call('HDEL', of_batch(id, 'fates'), n)
    redis.call('ZADD', of_batch(id, 'open'), n, n)
    if fate.migration ~= '' then
      redis.call('HSETNX', of_batch(id, 'tries'), n, 1)
      redis.call('HINCRBY', of_batch(id, 'tries'), n, 1)
    end
    local before = hopeless(n)
    if before then redis.call('HSET', of_batch(id, 'doomed'), n, before)
    elseif tonumber(redis.call('HGET', of_batch(id, 'wait'), n) or 0) == 0 then item_ready(id, n) end
  else
    fate.state = 'replaced'
    redis.call('HSET', of_batch(id, 'fates'), n, cjson.encode(fate))
    redis.call('HINCRBY', batch, 'total', -1)
  end
  done = done + 1
end
if done > 0 then revise(id) end
return {'OK', done}
