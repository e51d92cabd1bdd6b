-- The next delivery of a webhook, for as long as a try may take: of whoever is killed with it, it is due again then.
-- What has waited for too long is dropped.
-- ARGV: "", webhook, milliseconds that a try may take, milliseconds that a delivery may wait
-- OK, "<at> <type> <id of what it tells of>", failed tries of it, failed tries of the webhook since its last success
-- | NONE (nothing is due, or the webhook pauses)
local name, at = ARGV[2], now()
webhook_settled(name, redis.call('ZRANGEBYSCORE', of_webhook(name, 'waiting'), '-inf', at - tonumber(ARGV[4]),
  'LIMIT', 0, 100), 'gave-up')
local pauses, failures = unpack(redis.call('HMGET', of_webhook(name), 'until', 'failures'))
if tonumber(pauses or 0) > at then return {'NONE'} end
local entry = redis.call('ZRANGEBYSCORE', of_webhook(name, 'due'), '-inf', exact(), 'LIMIT', 0, 1)[1]
if not entry then return {'NONE'} end
redis.call('ZADD', of_webhook(name, 'due'), at + tonumber(ARGV[3]), entry)
return {'OK', entry, redis.call('HGET', of_webhook(name, 'tries'), entry) or '0', failures or '0'}
