-- Make a copy that was written beside it a thread: ttl. Answers 1, or 0 where there is such a thread already.
local source = KEYS[2]
if redis.call('EXISTS', H) == 1 then
  redis.call('UNLINK', source)
  return 0
end
redis.call('RENAME', source, H)
redis.call('HDEL', H, 'pinned')
redis.call('PERSIST', H)
expire(ARGV[1])
return 1
