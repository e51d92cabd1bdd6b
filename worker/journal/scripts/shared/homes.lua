-- Homes: where guests belong that a drain took away.

-- A guest has moved. A drain gives it a home, and keeps the one that it has where it is still where the drain before
-- sent it; whoever arrives at home has none any more.
local function settle(uuid, domain, source, destination, drain)
  local homes = prefix .. 'homes'
  local known = redis.call('HGET', homes, uuid)
  local home = known and cjson.decode(known)
  if drain ~= '' then
    if home and home.to == source then
      home.to, home.batch = destination, drain
    else
      home = {host = source, domain = domain, to = destination, batch = drain, at = now()}
    end
    redis.call('HSET', homes, uuid, cjson.encode(home))
  end
  if home and home.host == destination then redis.call('HDEL', homes, uuid) end
end
