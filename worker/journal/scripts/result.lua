-- The final result of a migration, as Celery's back end keeps it, and out of the outbox of results.
-- ARGV: id, result key, result text, seconds to keep it
-- OK | SAME (a success is shown already) | STALE (there is no such record, or it has not ended)
if redis.call('HGET', record, 'state') ~= 'ended' then return {'STALE'} end
local known, meta = pcall(cjson.decode, redis.call('GET', ARGV[2]) or '')
local same = known and type(meta) == 'table' and meta.status == 'SUCCESS'
if not same then show(ARGV[2], ARGV[3], ARGV[4]) end
leave('unshown') -- last: an error on the way leaves it there
return {same and 'SAME' or 'OK'}
