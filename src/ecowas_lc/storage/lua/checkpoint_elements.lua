-- Store elements before the values that refer to them, if they are too many for one command: (digest, element)*.
local wrong, known = check_format()
if wrong then return wrong end
local is_new = redis.call('HEXISTS', H, 'N') == 0
check_memory(known)
if is_new then redis.call('PEXPIRE', H, WITHOUT_CHECKPOINTS_MS) end
if not known then redis.call('HSET', H, 'format', FORMAT) end
for i = 1, #ARGV, 2 do redis.call('HSET', H, 'e' .. ARGV[i], ARGV[i + 1]) end
if is_new then redis.call('PEXPIRE', H, WITHOUT_CHECKPOINTS_MS) end
return 1
