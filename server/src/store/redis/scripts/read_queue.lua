#!lua flags=no-writes
-- Reads queue entries after one, at least one if there is one, then until a bound; for an owner only
-- while its lease is the present one.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  id to begin after
-- ARGV[4]  most bytes of blocks
-- ARGV[5]  hand-overs: the low half of the token; empty: for anybody
-- Reply:   {`<id>-<accepted µs>`, block, …}
-- Errors:  TABAFENCED  the lease is lost or expired
local now = time_now()
local refused = moved(tonumber(ARGV[2])) or closed(now)
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
if ARGV[5] ~= '' then
  local meta = redis.call('HMGET', prefix .. 'm', 'owner', 'lease_term', 'until', 'count')
  if not meta[1] or meta[2] ~= ARGV[1] or meta[4] ~= ARGV[5] or now >= tonumber(meta[3]) then
    return redis.error_reply('TABAFENCED the lease is lost')
  end
end
local found = {}
local from, left = digits(ARGV[3] + 1), tonumber(ARGV[4])
-- Grows while entries prove to be small: blocks beyond the bound are read in vain.
local step = 1
while true do
  local entries = redis.call('XRANGE', prefix .. 'q', from, '+', 'COUNT', step)
  local bytes = 0
  for _, entry in ipairs(entries) do
    local block = entry[2][2]
    if #block > left and #found > 0 then
      return found
    end
    left, bytes = left - #block, bytes + #block
    found[#found + 1], found[#found + 2] = entry[1], block
  end
  if #entries < step or left <= 0 then
    return found
  end
  from = '(' .. entries[#entries][1]
  step = math.max(1, math.min(step * 4, 256, math.floor(left * #entries / math.max(bytes, 1))))
end
