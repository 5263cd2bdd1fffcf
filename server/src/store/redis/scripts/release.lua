#!lua flags=allow-oom
-- Gives a lease back; does nothing if it is another's.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  hand-overs: the low half of the token
-- Reply:   1 if it was given back, else 0
local refused = moved(tonumber(ARGV[2]))
if refused then
  return refused
end
local key = 'v' .. ARGV[2] .. ':m'
local held = redis.call('HMGET', key, 'lease_term', 'count')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[3] then
  return 0
end
redis.call('HDEL', key, 'owner', 'until')
wrote()
return 1
