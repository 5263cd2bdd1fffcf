#!lua flags=no-writes
-- The per-client states of a tab, and the mark they were read at.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  tab
-- ARGV[4]  1: of the named clients; 0: of all
-- ARGV[5…] clients
-- Reply:   {mark, {client, state, …}} in no order
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
local key = prefix .. 'c:' .. ARGV[3]
local mark = tonumber(redis.call('HGET', prefix .. 'm', 'clients')) or 0
if ARGV[4] == '0' then
  return {mark, redis.call('HGETALL', key)}
end
local clients, found = {}, {}
for at = 5, #ARGV do
  clients[at - 4] = ARGV[at]
end
for at, state in ipairs(values_of(key, clients)) do
  if state then
    found[#found + 1], found[#found + 2] = clients[at], state
  end
end
return {mark, found}
