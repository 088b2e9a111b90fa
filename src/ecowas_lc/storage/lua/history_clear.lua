-- Removes a history. Answers {KEPT, 1 where there was one}, {FOREIGN, key, kind}.

local kind, refusal = history_kind()
if refusal then return refusal end
redis.call('UNLINK', KEYS[1], KEYS[2])
return {KEPT, kind == 'none' and 0 or 1}
