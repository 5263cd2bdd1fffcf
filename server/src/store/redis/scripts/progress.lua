#!lua flags=no-writes
-- How far a vbucket was applied, and since when it is behind.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- Reply:   {mark of the all-clients states, mark of the per-client states, `<id>-<accepted µs>` of the oldest
--          entry after the first mark or nil}
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
local marks = redis.call('HMGET', prefix .. 'm', 'aggregates', 'clients')
local aggregates = tonumber(marks[1]) or 0
local oldest = false
-- The next id is cheaper to look at than the oldest block.
if (tonumber(redis.call('HGET', 'taba:next', ARGV[2])) or 1) > aggregates + 1 then
  local entry = redis.call('XRANGE', prefix .. 'q', digits(aggregates + 1), '+', 'COUNT', 1)[1]
  oldest = entry and entry[1] or false
end
return {aggregates, tonumber(marks[2]) or 0, oldest}
