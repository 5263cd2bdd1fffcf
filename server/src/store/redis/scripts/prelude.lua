-- Put after the first line of every script: what each of them checks and needs.
--
-- KEYS: none. A shard is no Redis Cluster, and every key of a vbucket begins with its number (`v17:`).
-- ARGV[1]: the term that the caller's connection is bound to, decimal.
-- Errors:  TABATERM    the shard is in another term: the caller must look for its primary again.
--          TABACLOSED  the gate is past: reads could miss what another primary acknowledged meanwhile.
--          TABAMOVED   the vbucket is not of this shard.
-- A script makes all its checks before its first write, so an error always means that nothing changed.
local shard = redis.call('HMGET', 'taba:shard', 'term', 'first', 'last', 'gate', 'in_sync', 'min_in_sync')
if shard[1] ~= ARGV[1] then
  return redis.error_reply('TABATERM the shard is in term ' .. (shard[1] or 'none'))
end
local vbucket_first, vbucket_last = tonumber(shard[2]), tonumber(shard[3])

-- This moment by the shard's clock, in µs since 1970: exact, because it is below 2^53.
local function time_now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A whole number in decimal digits; `..` would round it to 14 of them.
local function digits(number)
  return string.format('%.0f', number)
end

-- An error reply if the vbucket is not of this shard.
local function moved(vbucket)
  if not vbucket_first or vbucket < vbucket_first or vbucket > vbucket_last then
    return redis.error_reply('TABAMOVED vbucket ' .. vbucket .. ' is not of this shard')
  end
end

-- An error reply if this shard may not answer reads.
local function closed(now)
  if now >= (tonumber(shard[4]) or 0) then
    return redis.error_reply('TABACLOSED the gate is past')
  end
end

-- Calls a command with a head and any number of further arguments, some at a time, because Lua's stack
-- takes about 8,000. 1,000 is even, so pairs stay together. Sums integer replies.
local function call_in_steps(command, key, arguments)
  local sum = 0
  for from = 1, #arguments, 1000 do
    local reply = redis.call(command, key, unpack(arguments, from, math.min(from + 999, #arguments)))
    if type(reply) == 'number' then
      sum = sum + reply
    end
  end
  return sum
end

-- The values of any number of fields, in order; false for those that are not there.
local function values_of(key, fields)
  local values = {}
  for from = 1, #fields, 1000 do
    local some = redis.call('HMGET', key, unpack(fields, from, math.min(from + 999, #fields)))
    for at = 1, #some do
      values[from + at - 1] = some[at]
    end
  end
  return values
end

-- Counts a write: (term, writes) is how far the shard's data have come.
local function wrote()
  redis.call('HINCRBY', 'taba:shard', 'writes', 1)
end
