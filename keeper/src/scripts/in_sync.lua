#!lua flags=allow-oom
-- Replaces the in-sync set.
-- KEYS[1]  taba:shard
-- ARGV[1]  term that must be the shard's
-- ARGV[2]  host:port that must be the term's primary
-- ARGV[3]  version that must be the set's
-- ARGV[4]  the new set, host:port,…
-- Reply    the new version
local key = KEYS[1]
local held = redis.call('HMGET', key, 'term', 'primary', 'in_sync_version')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return redis.error_reply('TABATERM another term') end
if held[3] ~= ARGV[3] then return redis.error_reply('TABAVERSION another version of the set') end
redis.call('HSET', key, 'in_sync', ARGV[4])
redis.call('HINCRBY', key, 'writes', 1)
return redis.call('HINCRBY', key, 'in_sync_version', 1)
