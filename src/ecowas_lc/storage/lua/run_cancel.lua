-- Ask for the end of a run: KEYS queue, run, events. ARGV: run id, ttl in ms, last event. Answers 'gone', its final
-- status, 'cancelled' if it had not started, or 'asked': the process that drives it ends it.
local status = redis.call('HGET', KEYS[2], 'status')
if not status then return 'gone' end
if status ~= 'open' then return status end
redis.call('HSET', KEYS[2], 'cancel', 1)
if redis.call('HGET', KEYS[2], 'attempt') ~= '0' or redis.call('LINDEX', KEYS[1], 0) == ARGV[1] then
  return 'asked'
end
redis.call('HSET', KEYS[2], 'status', 'cancelled', 'last', '0-2')
redis.call('XADD', KEYS[3], '0-2', 'e', ARGV[3])
redis.call('LREM', KEYS[1], 0, ARGV[1])
for _, key in ipairs({KEYS[2], KEYS[3]}) do redis.call('PEXPIRE', key, ARGV[2]) end
return 'cancelled'
