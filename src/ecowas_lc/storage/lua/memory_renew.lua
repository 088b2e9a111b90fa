-- Renew one value. ARGV: '=ms', '>ms' (or later if it already lives longer) or '>' (no limit).
-- Returns 1 if there is one.

local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
local ms = tonumber(string.sub(ARGV[1], 2))
local longer = string.sub(ARGV[1], 1, 1) == '>'
if not ms then
  redis.call('PERSIST', KEYS[1])
elseif not longer or (left ~= -1 and left < ms) then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ms))
end
return 1
