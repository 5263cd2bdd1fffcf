#!lua flags=allow-oom
-- Sets the time until which reads may be answered, by this primary's clock.
-- KEYS[1]  taba:shard
-- ARGV[1]  term that must be the shard's
-- ARGV[2]  host:port that must be the term's primary
-- ARGV[3]  until when, µs since 1970, never computed here: a script that a stopped Redis runs late must not
--          open anything; 0 closes reads, an empty string writes what is there (to be acknowledged)
-- Reply    the gate, µs since 1970, as a string
local key = KEYS[1]
local held = redis.call('HMGET', key, 'term', 'primary', 'gate')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return redis.error_reply('TABATERM another term') end
local gate = held[3] or '0'
if ARGV[3] == '0' then
  local time = redis.call('TIME')
  -- A gate that is past is closed; not writing keeps the replication offset where it is.
  if tonumber(gate) <= time[1] * 1000000 + time[2] then return gate end
  gate = '0'
elseif ARGV[3] ~= '' then
  gate = ARGV[3]
end
redis.call('HSET', key, 'gate', gate)
return gate
