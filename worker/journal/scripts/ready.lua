-- Which waiting migrations could start now, oldest first. Changes nothing.
-- ARGV: "", limits (JSON: host -> {out, in}; only hosts that may be used), how many to look at
local limits = cjson.decode(ARGV[2])
local taken, found = {}, {}
local function room(host, direction)
  local limit = limits[host]
  if not limit then return false end
  local key = slots(host, direction)
  taken[key] = taken[key] or redis.call('SCARD', key)
  return taken[key] < limit[direction]
end
local function consider(waiting)
  for _, candidate in ipairs(waiting) do
    local source, destination = unpack(redis.call('HMGET', prefix .. 'm:' .. candidate, 'source', 'destination'))
    if source and room(source, 'out') and room(destination, 'in') then
      taken[slots(source, 'out')] = taken[slots(source, 'out')] + 1
      taken[slots(destination, 'in')] = taken[slots(destination, 'in')] + 1
      found[#found + 1] = candidate
    end
  end
end
consider(redis.call('ZRANGEBYSCORE', prefix .. 'due', '-inf', now(), 'LIMIT', 0, ARGV[3]))
consider(redis.call('ZRANGE', prefix .. 'pending', 0, ARGV[3] - 1))
return found
