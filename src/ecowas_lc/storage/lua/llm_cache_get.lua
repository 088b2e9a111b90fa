-- Read a cached answer and note its use: digest. KEYS: the answers of a shard, and when each was used.
local ANSWERS, USES = KEYS[1], KEYS[2]
local found = redis.call('HGET', ANSWERS, ARGV[1])
if not found then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires, answer = string.match(found, '^(%d+) (.*)$')
if not expires then
  return redis.error_reply('ECOWASFORMAT A cached answer is stored in a format that this version of ecowas_lc does ' ..
    'not read. Upgrade ecowas_lc, or clear the cache.')
end
if expires ~= '0' and tonumber(expires) <= now then
  redis.call('HDEL', ANSWERS, ARGV[1])
  redis.call('ZREM', USES, ARGV[1])
  return false
end
redis.call('ZADD', USES, string.format('%.0f', now), ARGV[1])
return answer
