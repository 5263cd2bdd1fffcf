#!lua flags=no-writes
-- Clients that have a state in a vbucket, in order. Skips from client to client in the set of pairs.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  client to begin after; empty: from the first
-- ARGV[4]  at most how many
-- Reply:   the clients
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local key = 'v' .. ARGV[2] .. ':p'
-- A pair is `client NUL tab`, and no name has a byte below '!', so \1 is after all pairs of a client.
local from = ARGV[3] == '' and '-' or '(' .. ARGV[3] .. '\1'
local clients = {}
for at = 1, tonumber(ARGV[4]) do
  local pair = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 1)[1]
  if not pair then
    break
  end
  clients[at] = pair:sub(1, pair:find('\0', 1, true) - 1)
  from = '(' .. clients[at] .. '\1'
end
return clients
