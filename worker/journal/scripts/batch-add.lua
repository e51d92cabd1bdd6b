-- Some of the moves of a batch that is being filled, in order.
-- ARGV: id, number of the first, then for each the move (JSON) and the numbers of those it comes after ("1,2")
-- OK, how many the batch has now | SAME, how many (they are there already) | STALE
local batch = of_batch(id)
local filled, expected = unpack(redis.call('HMGET', batch, 'filled', 'expected'))
if not expected then return {'STALE'} end

-- What a plan leaves where it is, is skipped from the start, until another plan says something else.
local function left_out(n, move)
  redis.call('HSET', of_batch(id, 'fates'), n,
    cjson.encode({state = 'skipped', migration = '', code = move.left, why = move.why}))
  redis.call('SADD', of_batch(id, 'depends'), n)
  redis.call('HINCRBY', batch, 'skipped', 1)
  redis.call('HINCRBY', prefix .. 'batch-items', redis.call('HGET', batch, 'kind') .. ':skipped', 1)
end

local first, many = tonumber(ARGV[2]), (#ARGV - 2) / 2
if tonumber(filled) ~= first - 1 then return {'SAME', tonumber(filled)} end
if first - 1 + many > tonumber(expected) then return {'STALE'} end
for i = 0, many - 1 do
  local n, text, after, count = first + i, ARGV[3 + 2 * i], ARGV[4 + 2 * i], 0
  redis.call('HSET', of_batch(id, 'items'), n, text)
  local move = cjson.decode(text)
  if move.left then left_out(n, move) else redis.call('ZADD', of_batch(id, 'open'), n, n) end
  for before in string.gmatch(after, '%d+') do
    local known = redis.call('HGET', of_batch(id, 'then'), before)
    redis.call('HSET', of_batch(id, 'then'), before, known and known .. ',' .. n or n)
    count = count + 1
  end
  if count > 0 then redis.call('HSET', of_batch(id, 'wait'), n, count)
  elseif not move.left then item_ready(id, n, move) end
end
redis.call('HSET', batch, 'filled', first - 1 + many)
redis.call('HINCRBY', batch, 'total', many)
revise(id)
return {'OK', first - 1 + many}
