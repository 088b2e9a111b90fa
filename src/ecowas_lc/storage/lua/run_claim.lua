-- Take a run to drive it: KEYS queue, run, lease. ARGV: run id, holder, lease in ms. Answers {'gone'}, {'behind'}
-- (another run of the session is first), {'held'} (another process drives it), or {'yours', field, value, …}.
local id, holder, ms = ARGV[1], ARGV[2], ARGV[3]
local status = redis.call('HGET', KEYS[2], 'status')
if not status or status ~= 'open' then return {'gone'} end
local has = redis.call('GET', KEYS[3])
if has and has ~= holder and redis.call('PTTL', KEYS[3]) == -1 then has = false end -- not written by any process
if has and has ~= holder then return {'held'} end
if redis.call('LINDEX', KEYS[1], 0) ~= id then return {'behind'} end
if not has then
  local attempt = tonumber(redis.call('HGET', KEYS[2], 'attempt')) + 1
  redis.call('HSET', KEYS[2], 'attempt', attempt)
end
redis.call('SET', KEYS[3], holder, 'PX', ms)
return {'yours', unpack(redis.call('HGETALL', KEYS[2]))}
