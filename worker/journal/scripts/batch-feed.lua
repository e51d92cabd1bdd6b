-- Which moves of a running batch can be asked for now: few for each lane, so that slots are always busy and the queue
-- stays short. A lane that has enough of them, or nothing more, is not looked at again until one of its moves ends.
-- ARGV: id, windows (JSON: host -> {out, in}: so many may be asked for at once), how many
-- a flat list of n, move (JSON), migration
if redis.call('HGET', of_batch(id), 'state') ~= 'running' then return {} end
local windows, most, found, at = cjson.decode(ARGV[2]), tonumber(ARGV[3]), {}, now()
local lanes, ready = of_batch(id, 'lanes'), of_batch(id, 'ready')
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, most - 1)) do
  local source, destination = string.match(lane, '^(.-)>(.*)$')
  local out, into = windows[source], windows[destination]
  local room = math.min(out and out.out or 1000, into and into['in'] or 1000)
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
