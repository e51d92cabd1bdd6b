-- Drop what has expired, or is about to, from the indexes: the keys themselves expire.
-- ARGV: "", milliseconds that what has ended is kept, how many of each at most
-- OK, how many
local before, dropped = now() - tonumber(ARGV[2]), 0
for ended, all in pairs({ended = 'all', ['batches:ended'] = 'batches:all'}) do
  for _, ident in ipairs(redis.call('ZRANGEBYSCORE', prefix .. ended, '-inf', before, 'LIMIT', 0, ARGV[3])) do
    redis.call('ZREM', prefix .. ended, ident)
    redis.call('ZREM', prefix .. all, ident)
    dropped = dropped + 1
  end
end
return {'OK', dropped}
