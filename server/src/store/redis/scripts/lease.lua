#!lua flags=allow-oom
-- Takes or renews the lease of a vbucket. A lease of an older term is void.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  owner
-- ARGV[4]  how long, µs
-- Reply:   {1 if it was granted, else 0; hand-overs (the low half of the token); mark of the all-clients
--          states; mark of the per-client states}
--
-- Keys: v<n>:m  HASH owner, lease_term, count, until (µs), aggregates, clients
local vbucket = tonumber(ARGV[2])
local now = time_now()
local refused = moved(vbucket) or closed(now)
if refused then
  return refused
end
local key = 'v' .. ARGV[2] .. ':m'
local held = redis.call('HMGET', key, 'owner', 'lease_term', 'until', 'count', 'aggregates', 'clients')
local count = tonumber(held[4]) or 0
local is_held = held[1] and held[2] == ARGV[1]
if is_held and held[1] ~= ARGV[3] and now < tonumber(held[3]) then
  return {0, 0, 0, 0}
end
if not (is_held and held[1] == ARGV[3]) then
  count = count + 1
end
redis.call('HSET', key, 'owner', ARGV[3], 'lease_term', ARGV[1], 'until', now + ARGV[4], 'count', count)
wrote()
return {1, count, tonumber(held[5]) or 0, tonumber(held[6]) or 0}
