-- What waits for slots or for its turn, by priority, and since when the oldest of it does.
-- ARGV: ""
-- a flat list of priority, how many, since when
local counts, oldest = {}, {}
for _, source in ipairs(redis.call('SMEMBERS', prefix .. 'sources')) do
  for _, flow in ipairs(redis.call('ZRANGE', prefix .. 'flows:' .. source, 0, -1)) do
    local priority, line = priority_of(flow), redis.call('ZRANGE', line_key(source, flow), 0, -1, 'WITHSCORES')
    for i = 1, #line, 2 do
      counts[priority] = (counts[priority] or 0) + redis.call('ZCARD', lane_key(source, line[i], flow))
      oldest[priority] = math.min(oldest[priority] or math.huge, tonumber(line[i + 1]))
    end
  end
end
local told = {}
for priority, number in pairs(counts) do
  for _, item in ipairs({priority, number, string.format('%.0f', oldest[priority])}) do told[#told + 1] = item end
end
return told
