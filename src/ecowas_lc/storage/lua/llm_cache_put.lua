-- Cache an answer: digest, milliseconds to live or '', how many answers a shard holds at most, answer. KEYS as for
-- reading. The least recently used answers make room.
local ANSWERS, USES = KEYS[1], KEYS[2]
local ttl, most = ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = ttl == '' and 0 or now + tonumber(ttl)
local is_new = redis.call('EXISTS', ANSWERS) == 0
redis.call('HSET', ANSWERS, ARGV[1], string.format('%.0f ', expires) .. ARGV[4])
redis.call('ZADD', USES, string.format('%.0f', now), ARGV[1])
local over = redis.call('ZCARD', USES) - most
if over > 0 then
  for _, digest in ipairs(redis.call('ZRANGE', USES, 0, math.min(over, 1000) - 1)) do
    redis.call('HDEL', ANSWERS, digest)
    redis.call('ZREM', USES, digest)
  end
end
-- The shard expires with the last of its answers.
local left = redis.call('PTTL', ANSWERS)
for _, key in ipairs(KEYS) do
  if ttl == '' then
    redis.call('PERSIST', key)
  elseif is_new or (left >= 0 and left < tonumber(ttl)) then
    redis.call('PEXPIRE', key, ttl)
  elseif left >= 0 then
    redis.call('PEXPIRE', key, left)
  end
end
return 1
