-- Add events to a run that the holder drives, and renew its hold: KEYS queue, run, lease, events. ARGV: run id,
-- holder, attempt, lease in ms, ttl in ms, number of the first event, final status or '', then events. Events that are
-- already stored are not added again. Answers {-1} if another process has the run or it has ended, else {0}, or {1} if
-- it is to be cancelled.
local id, holder, attempt, ms, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local first, final = tonumber(ARGV[6]), ARGV[7]
local known = redis.call('HMGET', KEYS[2], 'status', 'attempt', 'last', 'cancel', 'ended_by')
if not known[1] or tonumber(known[2]) ~= attempt then return {-1} end
if known[1] ~= 'open' then
  return {known[5] == holder and 0 or -1}
end
local has = redis.call('GET', KEYS[3])
if has and has ~= holder then return {-1} end
local a, n = string.match(known[3], '^(%d+)-(%d+)$')
a, n = tonumber(a), tonumber(n)
local last = known[3]
for i = 8, #ARGV do
  local number = first + i - 8
  if a < attempt or (a == attempt and n < number) then
    last = attempt .. '-' .. number
    redis.call('XADD', KEYS[4], last, 'e', ARGV[i])
  end
end
redis.call('HSET', KEYS[2], 'last', last)
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do redis.call('PEXPIRE', key, ttl) end
if final == '' then
  redis.call('SET', KEYS[3], holder, 'PX', ms)
else
  redis.call('HSET', KEYS[2], 'status', final, 'ended_by', holder)
  redis.call('LREM', KEYS[1], 0, id)
  redis.call('DEL', KEYS[3])
end
return {known[4] and 1 or 0}
