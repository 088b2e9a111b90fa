-- Shared by the scripts about one history. A history is two keys of one slot that expire together:
-- KEYS[1], the list of JSON objects, and KEYS[2], its companion: a sorted set of named numbers. Those about the list:
--   'began', 'used'  first and last write, milliseconds since 1970
--   'm' .. id        a message id that was stored, scored 1, 2, 3, ... in the order of arrival
--   'last'           the last of these scores, and LAST_ID
--   't' .. number    scored MARKS + a time: until then no message id had a higher score than this number
-- Those that outlive the list are negative, so that one range of scores tells them apart:
--   'o' .. id, 'n' .. id  an operation that was done, scored by minus its time, so that a retry can be told apart
--   'cleared'        minus MARKS and the time at which the history was last asked to be removed
--   'journal'        minus MARKS and the time at which a process that keeps a journal last wrote here
-- An append takes microseconds: each server call, each number turned into text and every two
-- functions defined cost one. All numbers here have at most 14 digits, which Lua turns into text exactly.
--
-- All or nothing: any refusal (full server, ACL) comes before anything has changed. Commands that come
-- late are called early in a form that changes nothing. The first of them is one that a full server refuses: once
-- a script has called a command that writes, the server lets all others through.

local KEPT, LEGACY, FOREIGN = 1, 0, 2
local LAST_ID = 1000000000000 -- higher scores are times in milliseconds
local MARKS = 3000000000000   -- higher than all times
local CHUNK = 1000            -- unpack() of many thousands of values overflows Lua's stack
local OPERATION_REMEMBERED_MS = 120000 -- longer than any retry of a lost connection takes

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- how and ms: '=' after ms milliseconds; '>' after ms, or later if it already lives longer; without ms: never.
-- left: what PTTL said before the write. Answers the time of expiry in milliseconds, -1 for never.
local function set_expiry(how, ms, left, now)
  if ms == '' or (how == '>' and left == -1) then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[2])
    return -1
  end
  ms = tonumber(ms)
  if how == '>' and left > ms then ms = left end
  local at = now + ms .. ''
  redis.call('PEXPIREAT', KEYS[1], at)
  redis.call('PEXPIREAT', KEYS[2], at)
  return now + ms
end
