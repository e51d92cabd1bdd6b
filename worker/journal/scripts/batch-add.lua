-- Some of the moves of a batch that is being filled, in order.
-- ARGV: id, number of the first, then for each the move (JSON) and the numbers of those it comes after ("1,2")
-- OK, how many the batch has now | SAME, how many (they are there already) | STALE
local batch = of_batch(id)
local filled, expected = unpack(redis.call('HMGET', batch, 'filled', 'expected'))
if not expected then return {'STALE'} end
local first, many = tonumber(ARGV[2]), (#ARGV - 2) / 2
if tonumber(filled) ~= first - 1 then return {'SAME', tonumber(filled)} end
if first - 1 + many > tonumber(expected) then return {'STALE'} end
for i = 0, many - 1 do
  local n, text, after, count = first + i, ARGV[3 + 2 * i], ARGV[4 + 2 * i], 0
  redis.call('HSET', of_batch(id, 'items'), n, text)
  redis.call('ZADD', of_batch(id, 'open'), n, n)
  for before in string.gmatch(after, '%d+') do
    local known = redis.call('HGET', of_batch(id, 'then'), before)
    redis.call('HSET', of_batch(id, 'then'), before, known and known .. ',' .. n or n)
    count = count + 1
  end
  if count > 0 then redis.call('HSET', of_batch(id, 'wait'), n, count)
  else item_ready(id, n, cjson.decode(text)) end
end
redis.call('HSET', batch, 'filled', first - 1 + many)
redis.call('HINCRBY', batch, 'total', many)
revise(id)
return {'OK', first - 1 + many}
