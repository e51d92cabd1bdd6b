-- Phase messages that nobody has claimed in time; each is given a longer time and handed out once.
-- While the host's queue holds messages its agent is merely behind: nothing is lost, and sending again would
-- put it further behind.
-- ARGV: "", how many, prefix of the host queues
-- a flat list of id, baton, phase, traceparent (or "")

-- kombu keeps one list for each step of priority.
local function behind(queue)
  for _, step in ipairs({'', '\6\0223', '\6\0226', '\6\0229'}) do
    if redis.call('LLEN', queue .. step) > 0 then return true end
  end
  return false
end

local on_destination = {prepare = true, finish = true}
local found = {}
for _, late in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now(), 'LIMIT', 0, ARGV[2])) do
  local key = prefix .. 'm:' .. late
  local baton, phase, queued, step, source, destination, host, traceparent =
    unpack(redis.call('HMGET', key, 'baton', 'phase', 'queued', 'step', 'source', 'destination', 'host', 'traceparent'))
  -- What a version before this one queued does not say which host it is for, or names the one before.
  if phase ~= 'recover' then host = on_destination[phase] and destination or source end
  if baton and step == 'queued' and behind(ARGV[3] .. host) then
    redis.call('ZADD', prefix .. 'outbox', now() + 500, late)
  elseif baton and step == 'queued' then
    local waited = now() - tonumber(queued)
    redis.call('ZADD', prefix .. 'outbox', now() + math.min(math.max(waited, 1000), 60000), late)
    -- A look that is due is no message that was lost.
    if phase ~= 'recover' then
      redis.call('XADD', key .. ':events', '*', 'type', 'republished', 'data', '{"phase":"' .. phase .. '"}')
    end
    found[#found + 1] = late
    found[#found + 1] = baton
    found[#found + 1] = phase
    found[#found + 1] = traceparent or ''
  else
    redis.call('ZREM', prefix .. 'outbox', late)
  end
end
return found
