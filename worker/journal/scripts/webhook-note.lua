-- What came of a try to deliver.
-- ARGV: "", webhook, the delivery (as it was taken), result (delivered, refused, dropped, gave-up or retried), what is to be
--       said of it, milliseconds until the delivery is due again, milliseconds until the webhook is tried again
-- OK | GONE (it waits no more: dropped, or delivered by somebody else)
local name, entry, result, at = ARGV[2], ARGV[3], ARGV[4], now()
local hook = of_webhook(name)
if result == 'delivered' then
  redis.call('HDEL', hook, 'failures', 'until')
  redis.call('HSET', hook, 'told', at)
elseif result ~= 'dropped' then
  redis.call('HSET', hook, 'error', ARGV[5], 'failed', at)
end
if result ~= 'retried' then
  return {webhook_settled(name, {entry}, result) == 1 and 'OK' or 'GONE'}
end
-- Several tries that fail at once are one failure of the webhook.
if tonumber(redis.call('HGET', hook, 'until') or 0) <= at then
  redis.call('HINCRBY', hook, 'failures', 1)
  redis.call('HSET', hook, 'until', at + tonumber(ARGV[7]))
end
redis.call('HINCRBY', hook, result, 1)
if not redis.call('ZSCORE', of_webhook(name, 'waiting'), entry) then return {'GONE'} end
redis.call('HINCRBY', of_webhook(name, 'tries'), entry, 1)
redis.call('ZADD', of_webhook(name, 'due'), at + tonumber(ARGV[6]), entry)
return {'OK'}
