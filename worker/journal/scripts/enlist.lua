-- The lists of all migrations and of all batches, as their records say: a version before this one did not write them.
-- Called again and again, with what it answered last, until it begins anew.
-- ARGV: "", index (one that is told below, "" for the first), cursor within it
-- OK, index and cursor to go on with ("" where all was seen), how many were added or dropped
local ORDER = {'pending', 'due', 'active', 'doubt', 'ended', 'all', 'batches', 'batches:ended', 'batches:all'}
local place = 1
for at, name in ipairs(ORDER) do
  if name == ARGV[2] then place = at end
end
local index, changed = ORDER[place], 0
local of_batches = index:sub(1, 7) == 'batches'
local all = prefix .. (of_batches and 'batches:all' or 'all')
local cursor, found = unpack(redis.call('ZSCAN', prefix .. index, ARGV[3], 'COUNT', 500))
for i = 1, #found, 2 do
  local ident = found[i]
  local key = of_batches and of_batch(ident) or prefix .. 'm:' .. ident
  if prefix .. index == all then
    if redis.call('EXISTS', key) == 0 then changed = changed + redis.call('ZREM', all, ident) end
  elseif not redis.call('ZSCORE', all, ident) then
    local created = redis.call('HGET', key, 'created')
    if created then changed = changed + redis.call('ZADD', all, created, ident) end
  end
end
if cursor == '0' then index = ORDER[place + 1] or '' end
return {'OK', index, cursor, changed}
