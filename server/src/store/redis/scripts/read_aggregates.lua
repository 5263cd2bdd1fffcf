#!lua flags=no-writes
-- The all-clients states of tabs of one vbucket.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3…] tabs
-- Reply:   the states in the same order, nil for a tab without one
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local tabs = {}
for at = 3, #ARGV do
  tabs[at - 2] = ARGV[at]
end
return values_of('v' .. ARGV[2] .. ':a', tabs)
