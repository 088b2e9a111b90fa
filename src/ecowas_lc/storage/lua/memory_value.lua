-- Store one value. ARGV: JSON, time to live in milliseconds or '', 'absent' to write only if there is none.
-- Returns {1} if it is stored now, {0} if another one stays, {2, key, kind} if the key belongs to another program.

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'string' then return {2, KEYS[1], kind} end
if ARGV[3] == 'absent' and kind == 'string' then
  return {redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0}
end
if ARGV[2] == '' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return {1}
