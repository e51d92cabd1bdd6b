-- An operator wishes something of the perform that runs now.
-- ARGV: id, wish (JSON), how many may wait
-- OK (also where it waits already) | GONE | OVER, outcome | IDLE, state, phase, step | FULL
local state, phase, step, outcome = unpack(redis.call('HMGET', record, 'state', 'phase', 'step', 'outcome'))
if not state then return {'GONE'} end
if state == 'ended' then return {'OVER', outcome} end
if state ~= 'active' or phase ~= 'perform' or step ~= 'running' then
  return {'IDLE', state, phase or '', step or ''}
end
local wishes = record .. ':tunings'
if redis.call('LPOS', wishes, ARGV[2]) then return {'OK'} end
if redis.call('LLEN', wishes) >= tonumber(ARGV[3]) then return {'FULL'} end
redis.call('RPUSH', wishes, ARGV[2])
-- A perform that lives takes it within a second; nothing shall stay of one whose agent is gone.
redis.call('EXPIRE', wishes, 3600)
return {'OK'}
