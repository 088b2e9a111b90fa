-- A thread's expiry: what ('pin', 'unpin', 'touch', 'ttl'), ttl. Answers milliseconds left, -1 for never, -2 for no thread.
local wrong, known = check_format()
if wrong then return wrong end
if not known or redis.call('HEXISTS', H, 'N') == 0 then return -2 end
local what, ttl = ARGV[1], ARGV[2]
local left = redis.call('PTTL', H)
if what == 'pin' then
  redis.call('HSET', H, 'format', known) -- changes nothing; if it is refused, the expiry is still unchanged
  redis.call('PERSIST', H)
  redis.call('HSET', H, 'pinned', '1')
elseif what == 'unpin' then
  redis.call('HDEL', H, '') -- refused for the same reason
  if ttl ~= '' then expire(ttl, redis.call('HEXISTS', H, 'pinned') == 1) end
  redis.call('HDEL', H, 'pinned')
elseif what == 'touch' and ttl ~= '' and redis.call('HEXISTS', H, 'pinned') == 0 then
  expire(ttl)
end
return what == 'ttl' and left or redis.call('PTTL', H)
