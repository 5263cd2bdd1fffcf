#!lua flags=no-writes
-- Tabs of a vbucket that a client has a state in, in order.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  the client
-- Reply:   the tabs
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local key = 'v' .. ARGV[2] .. ':p'
local tabs = redis.call('ZRANGEBYLEX', key, '[' .. ARGV[3] .. '\0', '(' .. ARGV[3] .. '\1')
for at, pair in ipairs(tabs) do
  tabs[at] = pair:sub(#ARGV[3] + 2)
end
return tabs
