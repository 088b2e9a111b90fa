-- Renews a history. ARGV: expiry rule.
-- Answers {KEPT, 1 where there is one, time of expiry}, {FOREIGN, key, kind}.

local kind, refusal = history_kind()
if refusal then return refusal end
if kind == 'none' then return {KEPT, 0, 0} end
local how, ms = string.match(ARGV[1], '^(.)(%d*)$')
return {KEPT, 1, set_expiry(how, ms, redis.call('PTTL', KEYS[1]), now_ms())}
