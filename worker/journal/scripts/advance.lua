-- The phase is over: its result is stored and the next one queued, in one step.
-- ARGV: id, token, next phase, baton, phase result (JSON), fields (JSON object), milliseconds until republished,
--       host it is for
-- OK, kinds of the tunings that came too late | SAME (done already by this token) | STALE
local state, phase, step, token, attempt, done = unpack(redis.call('HMGET', record, 'state', 'phase', 'step', 'token', 'attempt', 'done'))
if done == ARGV[2] then return {'SAME'} end
if state ~= 'active' or step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
local at = now()
local run = 'phase:' .. attempt .. ':' .. phase
local told = cjson.decode(ARGV[5])
-- A recovery that waits looks again and again: it is told again when something else is seen.
local waits = told.idle and redis.call('HEXISTS', record, 'waiting') == 1
local before = waits and cjson.decode(redis.call('HGET', record, run) or '{}')
local news = not before or before.stage ~= told.stage or before.source ~= told.source
  or before.destination ~= told.destination
redis.call('HSET', record, 'phase', ARGV[3], 'step', 'queued', 'queued', exact(), 'baton', ARGV[4], 'done', token, 'host', ARGV[8],
  run, ARGV[5])
-- A version before this one claims without saying which agent it is: it shall not be taken for the one before.
redis.call('HDEL', record, 'token', 'incarnation')
if not told.idle then redis.call('HDEL', record, 'waiting') end
store(cjson.decode(ARGV[6]))
redis.call('ZADD', prefix .. 'outbox', at + tonumber(ARGV[7]), id)
redis.call('ZADD', prefix .. 'active', at, id)
local late = too_late()
if news then event('phase-ended', ARGV[5]) end
return {'OK', unpack(late)}
