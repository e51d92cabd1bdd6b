-- Somebody wants it stopped.
-- ARGV: id, fields of the end (JSON object), seconds to keep it, event data
-- ENDED (it was waiting and is cancelled now) | ASKED (its phases will see it) | OVER, outcome | GONE
local state, outcome = unpack(redis.call('HMGET', record, 'state', 'outcome'))
if not state then return {'GONE'} end
if state == 'ended' then return {'OVER', outcome} end
if state == 'pending' or state == 'backoff' then
  event('cancel', ARGV[4])
  conclude(cjson.decode(ARGV[2]), ARGV[3], ARGV[4])
  return {'ENDED'}
end
if redis.call('HSETNX', record, 'cancel', '1') == 1 then event('cancel', ARGV[4]) end
return {'ASKED', state}
