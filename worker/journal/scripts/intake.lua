-- A scheduler shows that it lives, and puts back into the queue what was taken from it and is in nobody's hands.
-- ARGV: the scheduler, milliseconds after which another one is taken for dead, queue, entries that it has lost itself
-- OK, how many were put back
local schedulers, queue, at, found = prefix .. 'schedulers', ARGV[3], now(), 0
redis.call('ZADD', schedulers, at, id)
for number = 4, #ARGV do
  if redis.call('LREM', prefix .. 'taken:' .. id, 1, ARGV[number]) == 1 then
    redis.call('RPUSH', queue, ARGV[number])
    found = found + 1
  end
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', schedulers, '-inf', at - tonumber(ARGV[2]))) do
  -- The newest is on the left; the oldest is to be taken first again.
  while redis.call('LMOVE', prefix .. 'taken:' .. other, queue, 'LEFT', 'RIGHT') do found = found + 1 end
end
-- Whoever was only held up may come back and take one more before it shows itself here: it is remembered for a day.
redis.call('ZREMRANGEBYSCORE', schedulers, '-inf', at - 86400000)
-- kombu keeps one list for each step of priority, and a blocking move knows only one.
for _, step in ipairs({'\6\0223', '\6\0226', '\6\0229'}) do
  for _ = 1, 1000 do
    if not redis.call('LMOVE', queue .. step, queue, 'RIGHT', 'LEFT') then break end
  end
end
return {'OK', found}
