-- Some of the moves that will not be asked for: of a batch that is being cancelled all that wait, of any other those
-- that come after one that did not go well.
-- ARGV: id, how many
-- OK, how many were skipped
local most, state = tonumber(ARGV[2]), redis.call('HGET', of_batch(id), 'state')
if state == 'cancelling' then
  local open = redis.call('ZRANGE', of_batch(id, 'open'), 0, most - 1)
  for _, n in ipairs(open) do item_settled(id, n, 'skipped', '', 'cancelled', 'the batch was cancelled before its turn') end
  return {'OK', #open}
end
if state == 'finished' or redis.call('EXISTS', of_batch(id, 'doomed')) == 0 then return {'OK', 0} end
local doomed, skipped = redis.call('HGETALL', of_batch(id, 'doomed')), 0
for at = 1, math.min(#doomed, 2 * most), 2 do
  local n, before = doomed[at], doomed[at + 1]
  if redis.call('ZSCORE', of_batch(id, 'open'), n) then
    item_settled(id, n, 'skipped', '', 'depends', 'it fits only after move ' .. before .. ', which was not made')
    skipped = skipped + 1
  else redis.call('HDEL', of_batch(id, 'doomed'), n) end
end
return {'OK', skipped}
