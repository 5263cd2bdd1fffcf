#!lua flags=no-writes
-- What waits in a vbucket's queue.
--
-- KEYS:    none
-- ARGV[1]  term
-- ARGV[2]  vbucket
-- Reply:   {entries, bytes of their blocks}
local ENTRY_BYTES = 64 -- counted for each entry besides its block; see `accept.lua`
local refused = moved(tonumber(ARGV[2])) or closed(time_now())
if refused then
  return refused
end
local entries = redis.call('XLEN', 'v' .. ARGV[2] .. ':q')
local bytes = tonumber(redis.call('HGET', 'taba:bytes', ARGV[2])) or 0
return {entries, bytes - entries * ENTRY_BYTES}
