-- A migration that waits, towards a host that was cordoned meanwhile, ends: its guest stays where it is.
-- ARGV: id, "settings" (they say that its destination is cordoned) or "", fields of the end (JSON object),
--       seconds to keep it, event data
-- OK | STALE (it does not wait, or its destination takes domains again)
local state, destination = unpack(redis.call('HMGET', record, 'state', 'destination'))
if state ~= 'pending' and state ~= 'backoff' then return {'STALE'} end
if ARGV[2] == '' and redis.call('HEXISTS', prefix .. 'cordons', destination) == 0 then return {'STALE'} end
conclude(cjson.decode(ARGV[3]), ARGV[4], ARGV[5])
return {'OK'}
