-- Phase messages that nobody has claimed in time; each is given a longer time and handed out once.
-- ARGV: "", how many
-- a flat list of id, baton, phase
local found = {}
for _, late in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now(), 'LIMIT', 0, ARGV[2])) do
  local key = prefix .. 'm:' .. late
  local baton, phase, queued, step = unpack(redis.call('HMGET', key, 'baton', 'phase', 'queued', 'step'))
  if baton and step == 'queued' then
    local waited = now() - tonumber(queued)
    redis.call('ZADD', prefix .. 'outbox', now() + math.min(math.max(waited, 1000), 60000), late)
    redis.call('XADD', key .. ':events', '*', 'type', 'republished', 'data', '{"phase":"' .. phase .. '"}')
    found[#found + 1] = late
    found[#found + 1] = baton
    found[#found + 1] = phase
  else
    redis.call('ZREM', prefix .. 'outbox', late)
  end
end
return found
