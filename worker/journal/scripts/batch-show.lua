-- How far a batch is, as AsyncResult shows it.
-- ARGV: id, result key, result text, seconds to keep it
-- OK | STALE (it has finished)
local state = redis.call('HGET', of_batch(id), 'state')
if not state or state == 'finished' then return {'STALE'} end
show(ARGV[2], ARGV[3], ARGV[4])
return {'OK'}
