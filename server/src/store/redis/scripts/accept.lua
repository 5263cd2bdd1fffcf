#!lua
-- Puts the parts of one batch on the queues of this shard's vbuckets: all of them or none, and once.
-- Refused by Redis itself (OOM) when over `maxmemory`, because it has no flag `allow-oom`.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  producer; empty: the batch has no id and is always new
-- ARGV[3]  sequence, below 2^53
-- ARGV[4]  most bytes of a vbucket's queue, counting ENTRY_BYTES for each entry
-- ARGV[5]  how long a producer is remembered after its last batch, µs
-- ARGV[6]  most producers remembered
-- ARGV[7]  1: refuse unless the in-sync set has `min_in_sync` replicas
-- ARGV[8…] vbucket, block, vbucket, block, …; an empty block is not queued
-- Reply:   1 if the batch was new, 0 if it was there before. Both write, so that a WAIT after it proves that
--          the replicas have what the reply speaks of.
-- Errors:  TABASTALE  the sequence is too far behind its producer's highest
--          TABAFULL   a bound was reached; says which
--          TABASYNC   too few replicas are in sync
--
-- Keys: v<n>:q          STREAM, the queue. Id `<entry id>-<accepted µs>`; the one field is named after the
--                       bytes ever pushed before it and not discarded, so that sums need no reading of blocks.
--       taba:d<g>       HASH producer → window, in generation g. A producer moves to the present generation
--                       when it is used; of the two that count, the older is dropped when a new one begins.
--                       One window speaks for all vbuckets of the shard, because a retry is cut into the
--                       same parts and all that are of one shard come in one call.
--                       One field has no name and a value of PADDING, see there.
--       taba:producers  HASH generation, since (µs when it began)
--       taba:next       HASH vbucket → id of the next entry, changes → count of accepts that queued
--       taba:total      HASH vbucket → bytes ever pushed and not discarded
--       taba:bytes      HASH vbucket → bytes waiting
--       The last three hold PADDING in a field `padding`.
local ENTRY_BYTES = 64 -- what Redis needs for an entry besides its block; see `queue_depth.lua`
-- Redis keeps a hash of up to 512 small values as a list that it searches from the start: 250 fields of 250
-- took 400 µs, as long as all else here. One value of more than 64 bytes makes it a table for good.
local PADDING = string.rep('.', 65)
local WINDOW = 1024 -- taba_core::batch::SEQUENCE_WINDOW
local WINDOW_EMPTY, WINDOW_FULL = string.rep('\0', WINDOW / 8), string.rep('\255', WINDOW / 8)

-- A window says which sequences of a producer are stored. It has one of two forms:
--   16 bytes: low, high. Every sequence from low to high. All traffic in order is this.
--   136 bytes: high, bits. Bit `s mod 1024` stands for s, for the 1024 sequences below high.

-- The bits of the sequences from `from` to `to`, fewer than 1024 apart, set or cleared.
local function fill(bits, from, to, on)
  while from <= to do
    local slot = from % WINDOW
    local at, low = math.floor(slot / 8) + 1, slot % 8
    local count = math.min(8 - low, to - from + 1)
    local mask = bit.lshift(2 ^ count - 1, low)
    local byte = bits:byte(at)
    byte = on and bit.bor(byte, mask) or bit.band(byte, bit.bnot(mask))
    bits = bits:sub(1, at - 1) .. string.char(byte) .. bits:sub(at + 1)
    from = from + count
  end
  return bits
end

local function run(low, high)
  return struct.pack('>I8I8', low, high)
end

local function window(high, bits)
  if bits == WINDOW_FULL then
    return run(high - WINDOW, high)
  end
  return struct.pack('>I8', high) .. bits
end

-- The window with a sequence added; nil and why if it was there ('seen') or is too old to tell ('stale').
local function add(value, sequence)
  if not value then
    return run(sequence, sequence)
  end
  local low, high, bits
  if #value == 16 then
    low, high = struct.unpack('>I8I8', value)
    if sequence == high + 1 then
      return run(low, sequence)
    end
  else
    high, bits = struct.unpack('>I8', value), value:sub(9)
  end
  local ahead = sequence - high
  if ahead > WINDOW then
    return run(sequence, sequence)
  elseif ahead == 0 or (low and ahead < 0 and sequence >= low) then
    return nil, 'seen'
  elseif -ahead > WINDOW then
    return nil, 'stale'
  end
  if low then
    bits = fill(WINDOW_EMPTY, math.max(low, high - WINDOW), high - 1, true)
  end
  if ahead > 0 then
    bits = fill(bits, high, high, true)
    return window(sequence, fill(bits, high + 1, sequence - 1, false))
  end
  local with = fill(bits, sequence, sequence, true)
  if with == bits then
    return nil, 'seen'
  end
  return window(high, with)
end

if ARGV[7] == '1' then
  local _, members = string.gsub(shard[5] or '', '[^,]+', '')
  if members - 1 < (tonumber(shard[6]) or 0) then
    return redis.error_reply('TABASYNC ' .. members .. ' members are in sync, with the primary')
  end
end

local producer, sequence = ARGV[2], tonumber(ARGV[3])
local bytes_max, retention, producers_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = time_now()

local generation, since
if producer ~= '' then
  local present = redis.call('HMGET', 'taba:producers', 'generation', 'since')
  generation, since = tonumber(present[1]) or 1, tonumber(present[2]) or now
  -- Two generations on, nothing of the present one is young enough to count.
  local passed = math.min(math.floor((now - since) / retention), 2)
  if passed > 0 then
    generation, since = generation + passed, now
  end
end
local now_key = generation and 'taba:d' .. digits(generation)
local old_key = generation and 'taba:d' .. digits(generation - 1)

-- How many producers a generation holds, besides the padding.
local function known(key)
  return math.max(redis.call('HLEN', key) - 1, 0)
end

-- Checks.
local fields = {}
for at = 8, #ARGV, 2 do
  local vbucket = ARGV[at]
  local refused = moved(tonumber(vbucket))
  if refused then
    return refused
  end
  fields[#fields + 1] = vbucket
end

local windows, is_old
if generation then
  local value = redis.call('HGET', now_key, producer)
  if not value then
    value = redis.call('HGET', old_key, producer)
    is_old = value
    if not value and known(now_key) + known(old_key) >= producers_max then
      return redis.error_reply('TABAFULL producers')
    end
  end
  local why
  windows, why = add(value, sequence)
  if why == 'stale' then
    return redis.error_reply('TABASTALE sequence ' .. ARGV[3] .. ' is too far behind')
  elseif why == 'seen' then
    wrote()
    return 0
  end
end

local next_id = values_of('taba:next', fields)
local total = values_of('taba:total', fields)
local waiting = values_of('taba:bytes', fields)
for index = 1, #fields do
  waiting[index] = tonumber(waiting[index]) or 0
  -- An empty queue takes a block of any size: else it could never be stored.
  if waiting[index] > 0 and waiting[index] + #ARGV[index * 2 + 7] + ENTRY_BYTES > bytes_max then
    return redis.error_reply('TABAFULL queue bytes')
  end
end

-- Writes.
local queued = 0
local accepted = '-' .. digits(now)
local next_pairs, total_pairs, waiting_pairs = {}, {}, {}
for index, vbucket in ipairs(fields) do
  local block = ARGV[index * 2 + 7]
  if #block > 0 then
    -- Digits as they were read: writing a number anew costs as much as a look-up.
    local id, before = next_id[index] or '1', total[index] or '0'
    redis.call('XADD', 'v' .. vbucket .. ':q', id .. accepted, before, block)
    local bytes = #block + ENTRY_BYTES
    queued = queued + 1
    local place = queued * 2 - 1
    next_pairs[place], next_pairs[place + 1] = vbucket, id + 1
    total_pairs[place], total_pairs[place + 1] = vbucket, before + bytes
    waiting_pairs[place], waiting_pairs[place + 1] = vbucket, waiting[index] + bytes
  end
end
if queued > 0 then
  if redis.call('HINCRBY', 'taba:next', 'changes', 1) == 1 then
    for _, key in ipairs({'taba:next', 'taba:total', 'taba:bytes'}) do
      redis.call('HSET', key, 'padding', PADDING)
    end
  end
  call_in_steps('HSET', 'taba:next', next_pairs)
  call_in_steps('HSET', 'taba:total', total_pairs)
  call_in_steps('HSET', 'taba:bytes', waiting_pairs)
end
if generation then
  if redis.call('HSET', now_key, producer, windows) == 1 then
    redis.call('HSETNX', now_key, '', PADDING)
    -- The end of the generation after this one, whoever accepts then or not.
    redis.call('PEXPIREAT', now_key, digits(math.ceil((since + 2 * retention) / 1000)))
  end
  if is_old then
    redis.call('HDEL', old_key, producer)
  end
  redis.call('HSET', 'taba:producers', 'generation', generation, 'since', since)
end
wrote()
return 1
