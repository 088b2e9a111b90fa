-- Copy a thread to a staging key, to be read in pages: seconds until the copy expires.
-- Returns how many fields it has and the thread's milliseconds to live (-1: no end); {} if there is no thread.
local wrong = check_format()
if wrong then return wrong end
if redis.call('HEXISTS', H, 'N') == 0 then return {} end
redis.call('EXPIRE', KEYS[2], ARGV[1]) -- of a missing key: if it is refused, there is no copy yet
redis.call('COPY', H, KEYS[2], 'REPLACE')
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[2], 'D') -- notes of removals are not part of a thread
return { redis.call('HLEN', KEYS[2]), redis.call('PTTL', H) }
