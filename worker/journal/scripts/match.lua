-- Which of these migrations or batches fit. The caller names some hundred at once: Redis serves nobody else meanwhile.
-- ARGV: "", "m" or "b", conditions (JSON: for each the fields of which one must have one of the values), ids
-- OK, the ids that fit, in their order
local conditions, names, found = cjson.decode(ARGV[3]), {}, {'OK'}
for _, condition in ipairs(conditions) do
  condition.allowed = {}
  for _, value in ipairs(condition.values) do condition.allowed[value] = true end
  for _, name in ipairs(condition.fields) do names[#names + 1] = name end
end

local function matches(told)
  local at = 0
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

for place = 4, #ARGV do
  if matches(redis.call('HMGET', prefix .. ARGV[2] .. ':' .. ARGV[place], unpack(names))) then
    found[#found + 1] = ARGV[place]
  end
end
return found
