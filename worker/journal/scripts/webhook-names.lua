-- Which webhooks there are and what each wants to be told, as the settings of the scheduler that leads say. Nothing more
-- is noted for one that is gone, and what waits for it expires.
-- ARGV: "", seconds until what waits for a webhook that is gone expires, then for each webhook its name and JSON of
--       {tells, hosts (both name -> true; of all hosts where empty), most}
-- OK, how many are gone
local parts, wishes, gone = {false, 'waiting', 'due', 'tries'}, {}, 0
for i = 3, #ARGV, 2 do wishes[ARGV[i]] = ARGV[i + 1] end
for _, name in ipairs(redis.call('HKEYS', prefix .. 'webhooks')) do
  if not wishes[name] then
    redis.call('HDEL', prefix .. 'webhooks', name)
    for _, part in ipairs(parts) do redis.call('EXPIRE', of_webhook(name, part), ARGV[2]) end
    gone = gone + 1
  end
end
for name, wish in pairs(wishes) do
  if redis.call('HGET', prefix .. 'webhooks', name) ~= wish then
    redis.call('HSET', prefix .. 'webhooks', name, wish)
    for _, part in ipairs(parts) do redis.call('PERSIST', of_webhook(name, part)) end
  end
end
return {'OK', gone}
