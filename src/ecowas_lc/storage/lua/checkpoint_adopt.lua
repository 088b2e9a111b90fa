-- Make a copy that was written beside it a thread: ttl. Answers 1; 0 where there is such a thread already; -1 where
-- there is no copy (any more).
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
redis.call('RENAME', source, H)
redis.call('HDEL', H, 'pinned')
renew(ARGV[1], true, false, true)
return 1
