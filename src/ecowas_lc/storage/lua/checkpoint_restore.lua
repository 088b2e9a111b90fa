-- Put what was written beside it in a thread's place: how many fields that has, milliseconds to live or '', '1' to
-- replace a thread. Answers 1; 0 where there is a thread already; -1 where what was written is not a whole thread.
local wrong = check_format()
if wrong then return wrong end
local source = KEYS[2]
local is_whole = redis.call('HEXISTS', source, 'N') == 1 and redis.call('HGET', source, 'format') == FORMAT
if not is_whole or redis.call('HLEN', source) ~= tonumber(ARGV[1]) then
  redis.call('UNLINK', source)
  return -1
end
if ARGV[3] ~= '1' and redis.call('HEXISTS', H, 'N') == 1 then
  redis.call('UNLINK', source)
  return 0
end
redis.call('UNLINK', H)
redis.call('RENAME', source, H)
if ARGV[2] == '' then redis.call('PERSIST', H) else redis.call('PEXPIRE', H, ARGV[2]) end
return 1
