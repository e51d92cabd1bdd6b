-- Which moves of a running batch can be asked for now: few for each lane, so that slots are always busy and the queue
-- stays short. A lane that has enough of them, or nothing more, is not looked at again until one of its moves ends.
-- ARGV: id, limits of the settings (JSON: host -> {out, in}), how many
-- a flat list of n, move (JSON), migration
if redis.call('HGET', of_batch(id), 'state') ~= 'running' then return {} end
local limits, most, found, at = cjson.decode(ARGV[2]), tonumber(ARGV[3]), {}, now()
local MORE = 2 -- than have room, so that one stands ready where a slot is given back

local function window(host, direction)
  local limit = limits[host] and limits[host][direction]
  return limit and set_limit(direction .. ':' .. host, limit) + MORE or 1000
end

local lanes, ready = of_batch(id, 'lanes'), of_batch(id, 'ready')
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, most - 1)) do
  local source, destination = string.match(lane, '^(.-)>(.*)$')
  local room = math.min(window(source, 'out'), window(destination, 'in'))
  room = room - tonumber(redis.call('HGET', of_batch(id, 'load'), lane) or 0)
  room = math.min(room, most - #found / 3)
  local waiting = room > 0 and redis.call('ZRANGEBYLEX', ready, '[' .. lane .. '\n', '(' .. lane .. '\n:', 'LIMIT', 0, room) or {}
  for _, member in ipairs(waiting) do
    local n = tonumber(string.match(member, '\n(%d+)$'))
    found[#found + 1] = n
    found[#found + 1] = redis.call('HGET', of_batch(id, 'items'), n)
    found[#found + 1] = migration_of(id, n)
  end
  if #waiting == 0 and #found / 3 < most then redis.call('ZREM', lanes, lane) else redis.call('ZADD', lanes, at, lane) end
  if #found / 3 >= most then break end
end
return found
