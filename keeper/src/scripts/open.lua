#!lua flags=allow-oom
-- Opens a term on the primary it runs on, after an election (or founds the shard).
-- KEYS[1]  taba:shard
-- ARGV[1]  shard id, 32 hex digits
-- ARGV[2]  name of the Sentinel master
-- ARGV[3]  term, above any other
-- ARGV[4]  host:port of this primary
-- ARGV[5]  members of the shard
-- ARGV[6]  replicas that must hold a write besides the primary
-- ARGV[7]  1 founds the shard, 0 opens one
-- ARGV[8]  µs to open reads for at once; 0 leaves them closed
-- Reply    the new version of the in-sync set
local key = KEYS[1]
local id = redis.call('HGET', key, 'id')
if ARGV[7] == '1' then
  if id and id ~= ARGV[1] then return redis.error_reply('TABAFOREIGN the data belong to another shard') end
  if not id and redis.call('DBSIZE') > 0 then return redis.error_reply('TABAFOREIGN the data belong to no shard') end
  redis.call('HSET', key, 'id', ARGV[1], 'name', ARGV[2])
elseif id ~= ARGV[1] then
  return redis.error_reply('TABAFOREIGN the data belong to another shard')
end
local term = tonumber(redis.call('HGET', key, 'term') or '0')
if term >= tonumber(ARGV[3]) then return redis.error_reply('TABATERM the data have a later term') end
local gate = 0
if ARGV[8] ~= '0' then
  local time = redis.call('TIME')
  gate = time[1] * 1000000 + time[2] + ARGV[8]
end
local set = redis.call('HGET', key, 'in_sync')
redis.call('HSET', key, 'term', ARGV[3], 'primary', ARGV[4], 'members', ARGV[5], 'min_in_sync', ARGV[6],
  'in_sync', ARGV[4], 'gate', string.format('%.0f', gate))
redis.call('HINCRBY', key, 'writes', 1)
-- Opening again with the same set is no change of it. So version 1 means that no replica was ever in it.
if set == ARGV[4] then return tonumber(redis.call('HGET', key, 'in_sync_version')) end
return redis.call('HINCRBY', key, 'in_sync_version', 1)
