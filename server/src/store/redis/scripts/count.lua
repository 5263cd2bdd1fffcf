#!lua flags=no-writes
-- How many clients have a state of a tab, or how many tabs a vbucket has.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  the tab; empty: count the tabs
-- Reply:   the count
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
return redis.call('HLEN', ARGV[3] == '' and prefix .. 'y' or prefix .. 'c:' .. ARGV[3])
