-- Add names or renew them, never shortening. ARGV: milliseconds to live or '' (no limit), names.

local now = now_ms()
drop_expired(now)
local at = ARGV[1] == '' and '+inf' or whole(now + tonumber(ARGV[1]))
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'GT', at, ARGV[index])
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], whole(tonumber(last)))
end
return 1
