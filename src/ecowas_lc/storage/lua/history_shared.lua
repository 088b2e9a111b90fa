-- What the scripts over one history share. A history is two keys of one slot that expire together:
-- KEYS[1], the list of JSON objects, and KEYS[2], its companion: a sorted set of named numbers,
--   'began', 'used'  first and last write, milliseconds since 1970
--   'm' .. id        a message id that was stored, scored 1, 2, 3, ... in the order of arrival
--   'last'           the last of these scores, and LAST_ID
--   'o' .. id        an operation that was done, scored by minus its time, so that a retry can be told apart
-- What an append does is counted in microseconds: each call of the server, each number made text and every two
-- functions defined are one. All numbers here have at most 14 digits, which is what Lua makes text of exactly.

local KEPT, LEGACY, FOREIGN = 1, 0, 2
local LAST_ID = 1000000000000 -- beyond it lie times in milliseconds
local CHUNK = 1000            -- unpack() of many thousands of values overflows Lua's stack

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- how and ms: '=' in so many milliseconds; '>' in so many, or later where it already lives longer; without ms: never.
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
