-- A thread's expiry: what ('pin', 'unpin', 'touch', 'ttl'), ttl. Answers milliseconds left, -1 for never, -2 for no thread.
local wrong, known = check_format()
if wrong then return wrong end
if not known or redis.call('HEXISTS', H, 'N') == 0 then return -2 end
local what, ttl = ARGV[1], ARGV[2]
if what == 'pin' then
  redis.call('HSET', H, 'pinned', '1')
  redis.call('PERSIST', H)
elseif what == 'unpin' then
  local was_pinned = redis.call('HDEL', H, 'pinned') == 1
  if ttl ~= '' then expire(ttl, was_pinned) end
elseif what == 'touch' and ttl ~= '' and redis.call('HEXISTS', H, 'pinned') == 0 then
  expire(ttl)
end
return redis.call('PTTL', H)
