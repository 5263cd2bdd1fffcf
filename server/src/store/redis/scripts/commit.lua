#!lua flags=allow-oom
-- Writes changed states, moves the marks and drops consumed entries, if the caller's lease is the present
-- one. May run over `maxmemory`, because only commits make room.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- ARGV[3]  hand-overs: the low half of the token
-- ARGV[4]  mark of the all-clients states
-- ARGV[5]  mark of the per-client states
-- ARGV[6…] changes in order, each: tab; 1 to delete it first, else 0; the head of a state of it (two
--          bytes, which tell the type) or empty if no state is put; 1 and the all-clients state, or 0 and nothing; how many clients' states follow,
--          then client, state, …; how many clients to remove follow, then client, …
-- Reply:   how many entries were dropped
-- Errors:  TABAFENCED  the lease is lost or expired
--
-- Keys: v<n>:a        HASH tab → all-clients state
--       v<n>:c:<tab>  HASH client → state
--       v<n>:y        HASH tab → head of a state of it, of tabs that have any state
--       v<n>:t        ZSET of those tabs, all with score 0, so that they are in name order
--       v<n>:p        ZSET of `client NUL tab`, all with score 0
local vbucket = tonumber(ARGV[2])
local now = time_now()
local refused = moved(vbucket)
if refused then
  return refused
end
local prefix = 'v' .. ARGV[2] .. ':'
local meta = redis.call('HMGET', prefix .. 'm', 'owner', 'lease_term', 'until', 'count', 'aggregates', 'clients')
if not meta[1] or meta[2] ~= ARGV[1] or meta[4] ~= ARGV[3] or now >= tonumber(meta[3]) then
  return redis.error_reply('TABAFENCED the lease is lost')
end

local states, heads, tabs, pairs_key = prefix .. 'a', prefix .. 'y', prefix .. 't', prefix .. 'p'

local function forget_pairs(tab, clients)
  local gone = {}
  for at, client in ipairs(clients) do
    gone[at] = client .. '\0' .. tab
  end
  call_in_steps('ZREM', pairs_key, gone)
end

local function delete(tab, key)
  redis.call('HDEL', states, tab)
  forget_pairs(tab, redis.call('HKEYS', key))
  redis.call('UNLINK', key)
end

-- Puts the clients' states that ARGV has from `at` on.
local function put(tab, key, at, count)
  for from = 0, count - 1, 500 do
    local upto = math.min(from + 500, count)
    local added = redis.call('HSET', key, unpack(ARGV, at + from * 2, at + upto * 2 - 1))
    if added > 0 then
      local members = {}
      for client = at + from * 2, at + upto * 2 - 1, 2 do
        members[#members + 1] = 0
        members[#members + 1] = ARGV[client] .. '\0' .. tab
      end
      call_in_steps('ZADD', pairs_key, members)
    end
  end
end

-- Keeps the lists in step with a tab's states.
local function list(tab, key, head)
  if head ~= '' then
    local before = redis.call('HGET', heads, tab)
    if before ~= head then
      redis.call('HSET', heads, tab, head)
      if not before then
        redis.call('ZADD', tabs, 0, tab)
      end
    end
  elseif redis.call('HEXISTS', states, tab) == 0 and redis.call('EXISTS', key) == 0 then
    redis.call('HDEL', heads, tab)
    redis.call('ZREM', tabs, tab)
  end
end

local at = 6
while at <= #ARGV do
  local tab, is_deleted, head, has_aggregate = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = prefix .. 'c:' .. tab
  if is_deleted == '1' then
    delete(tab, key)
  end
  if has_aggregate == '1' then
    redis.call('HSET', states, tab, ARGV[at + 4])
  end
  local puts = tonumber(ARGV[at + 5])
  put(tab, key, at + 6, puts)
  at = at + 6 + puts * 2
  local removals = tonumber(ARGV[at])
  local removed = {}
  for client = 1, removals do
    removed[client] = ARGV[at + client]
  end
  call_in_steps('HDEL', key, removed)
  forget_pairs(tab, removed)
  at = at + 1 + removals
  list(tab, key, head)
end

-- Marks never go back, and that of the aggregates leads.
local clients_before = tonumber(meta[6]) or 0
local clients = math.max(clients_before, tonumber(ARGV[5]))
local aggregates = math.max(tonumber(meta[5]) or 0, tonumber(ARGV[4]), clients)
redis.call('HSET', prefix .. 'm', 'aggregates', aggregates, 'clients', clients)
local dropped = 0
if clients > clients_before then
  dropped = redis.call('XTRIM', prefix .. 'q', 'MINID', digits(clients + 1))
  local oldest = redis.call('XRANGE', prefix .. 'q', '-', '+', 'COUNT', 1)[1]
  local waiting = 0
  if oldest then
    waiting = tonumber(redis.call('HGET', 'taba:total', ARGV[2])) - tonumber(oldest[2][1])
  end
  redis.call('HSET', 'taba:bytes', ARGV[2], waiting)
end
wrote()
return dropped
