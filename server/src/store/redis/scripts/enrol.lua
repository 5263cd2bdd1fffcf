#!lua flags=allow-oom
-- Announces a live backend for a while, or withdraws it, and tells which are live.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  name of the backend
-- ARGV[3]  how long, µs; 0 withdraws it
-- Reply:   names of the live backends
--
-- Keys: taba:backends  ZSET name, score = when it expires (µs)
local now = time_now()
redis.call('ZREMRANGEBYSCORE', 'taba:backends', '-inf', digits(now))
if ARGV[3] == '0' then
  redis.call('ZREM', 'taba:backends', ARGV[2])
else
  redis.call('ZADD', 'taba:backends', digits(now + ARGV[3]), ARGV[2])
end
wrote()
return redis.call('ZRANGE', 'taba:backends', 0, -1)
