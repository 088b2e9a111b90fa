-- For an append that found no list to add to, and wrote nothing.

if problem and not string.find(problem.err, 'WRONGTYPE', 1, true) then return problem end
local kind, refusal = history_kind()
return refusal or kind == 'string' and {LEGACY, redis.call('GET', KEYS[1])} or problem
