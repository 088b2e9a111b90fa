-- Stores one value. ARGV: JSON, time to live in milliseconds or ''. Answers {1}, {2, key, kind} where the key is
-- somebody else's.

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'string' then return {2, KEYS[1], kind} end
if ARGV[2] == '' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return {1}
