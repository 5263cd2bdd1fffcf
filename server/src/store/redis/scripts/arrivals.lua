#!lua flags=no-writes
-- Which queues have grown, for all vbuckets of the shard at once. It only wakes those who wait, so it does
-- not look at the gate.
--
-- KEYS:    taba:next, for callers who want to be told when it changes: Redis 7.0 tells only of keys that are named
-- ARGV[1]  term
-- ARGV[2]  the value of `changes` that the caller knows
-- Reply:   nothing if it is still that, else `taba:next` as {field, value, …}: `changes`, vbuckets and other fields
if redis.call('HGET', 'taba:next', 'changes') == ARGV[2] then
  return {}
end
return redis.call('HGETALL', 'taba:next')
