-- When everything of an agent or a session was last removed: KEYS[1] holds the time, in milliseconds.
-- ARGV: 'mark' to say that it is now. Answers how many milliseconds ago that was, -1 for never.

local MARK_MS = 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'mark' then
  redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', MARK_MS)
  return 0
end
local at = tonumber(redis.call('GET', KEYS[1]) or '')
return at and math.max(0, now - at) or -1
