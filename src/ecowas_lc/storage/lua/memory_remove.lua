-- Removes one value.
-- Answers {1}, {0} where there was none, {2, key, kind} where the key is somebody else's.

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'string' then return {2, KEYS[1], kind} end
return {redis.call('UNLINK', KEYS[1])}
