-- Copy a thread beside itself, to be read at leisure: seconds until the copy goes by itself.
-- Answers how many fields it has and the thread's milliseconds to live (-1: no end); {} where there is no thread.
local wrong = check_format()
if wrong then return wrong end
if redis.call('HEXISTS', H, 'N') == 0 then return {} end
redis.call('EXPIRE', KEYS[2], ARGV[1]) -- of nothing yet: refused before there is a copy
redis.call('COPY', H, KEYS[2], 'REPLACE')
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[2], 'D') -- what was removed when is not part of a thread
return { redis.call('HLEN', KEYS[2]), redis.call('PTTL', H) }
