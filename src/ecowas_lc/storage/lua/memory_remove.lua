-- Remove one value.
-- Returns {1}, {0} if there was none, {2, key, kind} if the key belongs to another program.

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'string' then return {2, KEYS[1], kind} end
return {redis.call('UNLINK', KEYS[1])}
