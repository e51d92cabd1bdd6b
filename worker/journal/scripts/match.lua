-- Which migrations or batches fit, of some hundred at once: Redis serves nobody else meanwhile.
-- ARGV: "", "m" or "b", conditions (JSON: for each the fields of which one must have one of the values), index that is
--       read from the highest score on, highest score, how many to pass over, how many to look at
--       (instead, with index "": their ids)
-- OK, how many were looked at, the last of them and its score (both "" where there was none), then id and score of each
-- that fits, in their order
local conditions, names, entries = cjson.decode(ARGV[3]), {}, {}
for _, condition in ipairs(conditions) do
  condition.allowed = {}
  for _, value in ipairs(condition.values) do condition.allowed[value] = true end
  for _, name in ipairs(condition.fields) do names[#names + 1] = name end
end

local function matches(ident)
  if #names == 0 then return true end
  local told, at = redis.call('HMGET', prefix .. ARGV[2] .. ':' .. ident, unpack(names)), 0
  for _, condition in ipairs(conditions) do
    local some = false
    for _ in ipairs(condition.fields) do
      at = at + 1
      some = some or (condition.allowed[told[at] or ''] or false)
    end
    if not some then return false end
  end
  return true
end

if ARGV[4] ~= '' then
  entries = redis.call('ZREVRANGEBYSCORE', prefix .. ARGV[4], ARGV[5], '-inf', 'WITHSCORES', 'LIMIT', ARGV[6], ARGV[7])
else
  for place = 5, #ARGV do
    entries[#entries + 1] = ARGV[place]
    entries[#entries + 1] = ''
  end
end
local found = {'OK', #entries / 2, entries[#entries - 1] or '', entries[#entries] or ''}
for i = 1, #entries, 2 do
  if matches(entries[i]) then
    found[#found + 1] = entries[i]
    found[#found + 1] = entries[i + 1]
  end
end
return found
