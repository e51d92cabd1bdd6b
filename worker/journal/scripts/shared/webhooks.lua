-- Webhooks: what one is told is noted in the step that makes it true, for each webhook by itself.

local function of_webhook(name, part)
  return prefix .. 'webhook:' .. name .. (part and ':' .. part or '')
end

-- These deliveries wait no more.
local function webhook_settled(name, entries, result)
  if #entries == 0 then return 0 end
  local number = redis.call('ZREM', of_webhook(name, 'waiting'), unpack(entries))
  redis.call('ZREM', of_webhook(name, 'due'), unpack(entries))
  redis.call('HDEL', of_webhook(name, 'tries'), unpack(entries))
  if number > 0 then redis.call('HINCRBY', of_webhook(name), result, number) end
  return number
end

-- Whether one wants to be told. A wish of another version that cannot be read wants nothing: what ends must end.
local function webhook_wants(wish, kind, source, destination)
  if type(wish) ~= 'table' or type(wish.tells) ~= 'table' or type(wish.hosts) ~= 'table' or not wish.most then
    return false
  end
  if not wish.tells[kind] then return false end
  return kind == 'batch-finished' or not next(wish.hosts) or wish.hosts[source or ''] or wish.hosts[destination or '']
end

-- Something is to be told of a migration or a batch. Of more than may wait, the oldest is dropped.
local function tell(kind, type_of, of, at, source, destination)
  local named = redis.call('HGETALL', prefix .. 'webhooks')
  for i = 1, #named, 2 do
    local name = named[i]
    local known, wish = pcall(cjson.decode, named[i + 1])
    if known and webhook_wants(wish, kind, source, destination) then
      local entry = string.format('%d %s %s', at, type_of, of)
      local order = exact() -- of one millisecond, too
      redis.call('ZADD', of_webhook(name, 'waiting'), order, entry)
      redis.call('ZADD', of_webhook(name, 'due'), order, entry)
      local many = redis.call('ZCARD', of_webhook(name, 'waiting')) - wish.most
      if many > 0 then
        webhook_settled(name, redis.call('ZRANGE', of_webhook(name, 'waiting'), 0, math.min(many, 100) - 1), 'dropped')
      end
    end
  end
end
