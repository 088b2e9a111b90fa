-- Returns the names that have not expired and the score of each as text: name, score, name, score, …
-- ARGV: 'count' for how many there are instead.

drop_expired(now_ms())
if ARGV[1] == 'count' then return redis.call('ZCARD', KEYS[1]) end
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
