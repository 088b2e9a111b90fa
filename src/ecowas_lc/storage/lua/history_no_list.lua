-- Where an append found no list that it could add to, and has written nothing.

local kind, refusal = history_kind()
return refusal or kind == 'string' and {LEGACY, redis.call('GET', KEYS[1])} or problem
