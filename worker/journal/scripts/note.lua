-- A running perform tells of a stall, or of what became of a tuning, whose wish goes from the list.
-- ARGV: id, token, "stalled" or "tuned", event data, wish (as it was handed out)
-- OK | SAME (told already) | STALE
local step, token, stalled = unpack(redis.call('HMGET', record, 'step', 'token', 'stalled'))
if step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
if ARGV[3] == 'stalled' then
  if stalled == ARGV[4] then return {'SAME'} end
  redis.call('HSET', record, 'stalled', ARGV[4])
  event('stalled', ARGV[4])
else
  if redis.call('LREM', record .. ':tunings', 1, ARGV[5]) == 0 then return {'SAME'} end
  event('tuned', ARGV[4])
end
return {'OK'}
