-- Begin a run: KEYS queue, run, events. ARGV: 'refuse' or 'queue', most that may wait, run id, ttl in ms, where the
-- runs' keys begin, first event, then fields and values. Answers {1} if it is stored, now or before, and
-- {0, run id} if the run with that id is in progress and this one may not wait.
local policy, most, id, ttl, base, event = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', KEYS[2]) == 1 then return {1} end
local first = redis.call('LINDEX', KEYS[1], 0)
while first and redis.call('EXISTS', base .. first) == 0 do -- it expired
  redis.call('LPOP', KEYS[1])
  first = redis.call('LINDEX', KEYS[1], 0)
end
if first and (policy == 'refuse' or redis.call('LLEN', KEYS[1]) > most) then return {0, first} end
redis.call('HSET', KEYS[2], 'last', '0-1', 'attempt', 0, unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('XADD', KEYS[3], '0-1', 'e', event)
redis.call('PEXPIRE', KEYS[3], ttl)
redis.call('RPUSH', KEYS[1], id)
redis.call('PEXPIRE', KEYS[1], ttl)
return {1}
