-- Slots, and the queue of what waits for them.

local function slots(host, direction)
  return prefix .. 'slots:' .. host .. ':' .. direction
end

-- The migration touches no host any more: others may use its slots.
local function release(source, destination)
  redis.call('SREM', slots(source, 'out'), id)
  redis.call('SREM', slots(destination, 'in'), id)
end
