-- Where an append found no list that it could add to, and has written nothing.

if problem and not string.find(problem.err, 'WRONGTYPE', 1, true) then return problem end
local kind, refusal = history_kind()
return refusal or kind == 'string' and {LEGACY, redis.call('GET', KEYS[1])} or problem
