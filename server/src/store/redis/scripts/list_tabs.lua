#!lua flags=no-writes
-- Tabs of a vbucket in name order.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  name to begin after; empty: from the first
-- ARGV[4]  at most how many
-- Reply:   {{tab, …}, {head of a state of it, …}}; the head tells the type
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local tabs = redis.call('ZRANGEBYLEX', prefix .. 't', from, '+', 'LIMIT', 0, ARGV[4])
return {tabs, values_of(prefix .. 'y', tabs)}
