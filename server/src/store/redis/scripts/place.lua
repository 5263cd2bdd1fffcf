#!lua flags=allow-oom
-- Writes the shard's placement if it has none, and tells what it is.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbuckets of the cluster
-- ARGV[3]  first vbucket of this shard
-- ARGV[4]  last vbucket of this shard
-- Reply:   {vbuckets, first, last, version of the placement} as stored
local stored = redis.call('HMGET', 'taba:shard', 'vbuckets', 'first', 'last', 'placement')
if stored[1] or stored[2] or stored[3] or stored[4] then
  return stored
end
redis.call('HSET', 'taba:shard', 'vbuckets', ARGV[2], 'first', ARGV[3], 'last', ARGV[4], 'placement', '1')
wrote()
return {ARGV[2], ARGV[3], ARGV[4], '1'}
