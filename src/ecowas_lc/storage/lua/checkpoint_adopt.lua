-- Turn a staged copy into a thread: ttl. Answers 1; 0 where there is such a thread already; -1 where
-- there is no copy, or no longer.
local wrong = check_format()
if wrong then return wrong end
local source = KEYS[2]
if redis.call('HEXISTS', H, 'N') == 1 then
  redis.call('UNLINK', source)
  return 0
end
if redis.call('HEXISTS', source, 'N') == 0 then
  redis.call('UNLINK', source)
  return -1
end
redis.call('HDEL', source, 'pinned')
return take_place(source, ARGV[1]) or 1
