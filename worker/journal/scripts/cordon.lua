-- Nothing is sent to a host any more. Who asks again keeps the time of the first, and takes the rest over.
-- ARGV: host, by, reason, batch ("" where none drains it)
-- OK | SAME (it is cordoned already), what is kept now
local cordons, host = prefix .. 'cordons', ARGV[1]
local known = redis.call('HGET', cordons, host)
local kept = known and cjson.decode(known) or {at = now(), by = '', reason = '', batch = ''}
if not known or ARGV[4] ~= '' then kept.batch = ARGV[4] end
if ARGV[2] ~= '' or ARGV[3] ~= '' then kept.by, kept.reason = ARGV[2], ARGV[3] end
local told = cjson.encode(kept)
redis.call('HSET', cordons, host, told)
return {known and 'SAME' or 'OK', told}
