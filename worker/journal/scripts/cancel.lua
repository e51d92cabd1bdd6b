-- Somebody wants it stopped.
-- ARGV: id, fields of the end (JSON object), seconds to keep it, event data
-- ENDED (it was waiting and is cancelled now) | ASKED (its phases will see it) | OVER, outcome | GONE
-- TOO-LATE, phase (the guest has left its source, and nothing failed since: there is nothing to stop)
local state, outcome, attempt, phase = unpack(redis.call('HMGET', record, 'state', 'outcome', 'attempt', 'phase'))

local function went_well(name)
  local run = redis.call('HGET', record, 'phase:' .. attempt .. ':' .. name)
  return run and not cjson.decode(run).error
end

if not state then return {'GONE'} end
if state == 'ended' then return {'OVER', outcome} end
if state == 'pending' or state == 'backoff' then
  event('cancel', ARGV[4])
  conclude(cjson.decode(ARGV[2]), ARGV[3], ARGV[4])
  return {'ENDED'}
end
-- A finish that failed is undone: of that a cancel says that no other attempt follows.
if state == 'active' and went_well('perform') and (phase == 'finish' or phase == 'confirm' and went_well('finish')) then
  return {'TOO-LATE', phase}
end
if redis.call('HSETNX', record, 'cancel', '1') == 1 then event('cancel', ARGV[4]) end
return {'ASKED', state}
