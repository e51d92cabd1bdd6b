-- Results that nobody has shown in time: whoever ended the migration died first, or could not reach Redis.
-- Each is handed out once in that time.
-- ARGV: "", milliseconds since the end, how many
-- a list of ids
local at, found = now(), {}
for _, late in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'unshown', '-inf', at - tonumber(ARGV[2]), 'LIMIT', 0, ARGV[3])) do
  if redis.call('HGET', prefix .. 'm:' .. late, 'state') == 'ended' then
    redis.call('ZADD', prefix .. 'unshown', at, late)
    found[#found + 1] = late
  else
    redis.call('ZREM', prefix .. 'unshown', late)
  end
end
return found
