-- How many migrations may run at once: changed while everything runs, and told as it is in force.
-- ARGV: "", changes (JSON object: field of the hash limits -> number, or false to give the settings' value back),
--       terms (JSON)
-- OK, JSON {hosts: {host: {outgoing, incoming, at_most}}, networks, migrations}, each {used, limit, asked}
for field, value in pairs(cjson.decode(ARGV[2])) do
  if value then redis.call('HSET', prefix .. 'limits', field, string.format('%d', value))
  else redis.call('HDEL', prefix .. 'limits', field) end
end
local terms, told = cjson.decode(ARGV[3]), {hosts = {}, networks = {}}
for host, own in pairs(terms.hosts) do
  local limits = host_limits(terms, host)
  told.hosts[host] = {
    outgoing = {used = used(slots(host, 'out')), limit = limits.out, asked = set_limit('out:' .. host, own.out)},
    incoming = {used = used(slots(host, 'in')), limit = limits['in'], asked = set_limit('in:' .. host, own['in'])},
    at_most = limits.most,
  }
end
for network in pairs(networks_of(terms)) do
  local limit = set_limit('net:' .. network, terms.nets[network])
  told.networks[network] = {used = used(network_slots(network)), limit = limit, asked = limit}
end
local all = set_limit('all', terms.all)
told.migrations = {used = redis.call('ZCARD', prefix .. 'active'), limit = all, asked = all}
return {'OK', cjson.encode(told)}
