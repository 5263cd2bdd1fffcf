#!lua flags=allow-oom
-- Drops every entry that no committed all-clients state holds; if there were any, takes the lease away.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- Reply:   how many were dropped
local refused = moved(tonumber(ARGV[2]))
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
local from = digits((tonumber(redis.call('HGET', prefix .. 'm', 'aggregates')) or 0) + 1)
local first_total
local dropped = 0
while true do
  local entries = redis.call('XRANGE', prefix .. 'q', from, '+', 'COUNT', 100)
  if #entries == 0 then
    break
  end
  first_total = first_total or tonumber(entries[1][2][1])
  local ids = {}
  for at, entry in ipairs(entries) do
    ids[at] = entry[1]
  end
  dropped = dropped + redis.call('XDEL', prefix .. 'q', unpack(ids))
end
if dropped > 0 then
  -- What was dropped was never pushed, as far as sums of bytes go; ids are not used again.
  local gone = tonumber(redis.call('HGET', 'taba:total', ARGV[2])) - first_total
  redis.call('HSET', 'taba:total', ARGV[2], first_total)
  redis.call('HINCRBY', 'taba:bytes', ARGV[2], digits(-gone))
  redis.call('HDEL', prefix .. 'm', 'owner', 'until')
end
wrote()
return dropped
