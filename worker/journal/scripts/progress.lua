-- A running phase shows that it lives, and learns whether it is to stop.
-- ARGV: id, token, progress (JSON or ""), event ("1" to note it in the stream),
--       result key (or ""), result text, seconds to keep it
-- OK, cancel ("1" or ""), host that evicts ("" where none does), the wishes that nobody told the end of, oldest first | STALE
local step, token, cancel, source, destination =
  unpack(redis.call('HMGET', record, 'step', 'token', 'cancel', 'source', 'destination'))

-- The agent of a host that is being stopped and waits no longer says so with its lease, so that it ends with it.
local function evicting(host)
  local card = redis.call('GET', prefix .. 'lease:' .. host)
  return card and cjson.decode(card).evicting and host
end

if step ~= 'running' or token ~= ARGV[2] then return {'STALE'} end
redis.call('ZADD', prefix .. 'active', now(), id)
redis.call('HDEL', record, 'waiting') -- a move that is watched waits for nobody
if ARGV[3] ~= '' then redis.call('HSET', record, 'progress', ARGV[3]) end
if ARGV[4] == '1' then event('progress', ARGV[3]) end
show(ARGV[5], ARGV[6], ARGV[7])
local evicts = evicting(source) or evicting(destination) or ''
return {'OK', cancel or '', evicts, unpack(redis.call('LRANGE', record .. ':tunings', 0, -1))}
