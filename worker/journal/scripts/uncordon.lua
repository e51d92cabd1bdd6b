-- A host takes domains again.
-- ARGV: host
-- OK | SAME (it was not cordoned)
return {redis.call('HDEL', prefix .. 'cordons', ARGV[1]) == 1 and 'OK' or 'SAME'}
