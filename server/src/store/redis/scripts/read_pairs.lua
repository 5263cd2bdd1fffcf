#!lua flags=no-writes
-- States of (tab, client) pairs of one vbucket.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3…] tab, client, tab, client, …
-- Reply:   the states in the same order, nil for a pair without one
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':c:'
local states = {}
for at = 3, #ARGV, 2 do
  states[#states + 1] = redis.call('HGET', prefix .. ARGV[at], ARGV[at + 1])
end
return states
