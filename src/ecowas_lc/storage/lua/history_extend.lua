-- Renew a history. ARGV: expiry rule.
-- Returns {KEPT, 1 if there is one, milliseconds that it has left or -1}, {FOREIGN, key, kind}.

local kind, refusal = history_kind()
if refusal then return refusal end
if kind == 'none' then return {KEPT, 0, 0} end
local how, ms = string.match(ARGV[1], '^(.)(%d*)$')
local now = now_ms()
local at = set_expiry(how, ms, redis.call('PTTL', KEYS[1]), now)
return {KEPT, 1, at == -1 and -1 or at - now}
