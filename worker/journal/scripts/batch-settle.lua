-- A move that waits cannot even be asked for.
-- ARGV: id, n, state (failed or skipped), code, why
-- OK | STALE (it does not wait)
if not redis.call('ZSCORE', of_batch(id, 'open'), ARGV[2]) then return {'STALE'} end
item_settled(id, ARGV[2], ARGV[3], '', ARGV[4], ARGV[5])
return {'OK'}
