-- A running phase shows that it lives, and learns whether it is to stop.
-- ARGV: id, token, progress (JSON or ""), event ("1" to note it in the stream),
--       result key (or ""), result text, seconds to keep it
-- OK, cancel ("1" or ""), the wishes that nobody told the end of, oldest first | STALE
local step, token, cancel = unpack(redis.call('HMGET', record, 'step', 'token', 'cancel'))
if step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
redis.call('ZADD', prefix .. 'active', now(), id)
if ARGV[3] ~= '' then redis.call('HSET', record, 'progress', ARGV[3]) end
if ARGV[4] == '1' then event('progress', ARGV[3]) end
show(ARGV[5], ARGV[6], ARGV[7])
return {'OK', cancel or '', unpack(redis.call('LRANGE', record .. ':tunings', 0, -1))}
