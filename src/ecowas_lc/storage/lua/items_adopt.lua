-- Add existing items that the indexes lack: their ids. Answers how many existed. Their versions stay; the
-- horizon rises, so that processes with copies of this bucket read it again.
local head = redis.call('HMGET', HEAD, 'format', 'version')
local wrong = format_error(head[1])
if wrong then return wrong end
local now = now_us()
local version = whole(math.max(now, (tonumber(head[2]) or 0) + 1))
local found = 0
for i, id in ipairs(ARGV) do
  local key = KEYS[FIRST_ITEM + i - 1]
  local changed = redis.call('TYPE', key).ok == 'hash'
    and string.match(redis.call('HGET', key, 'h') or '', '^1 %d+ (%d+) %d+$')
  local space = space_of(id)
  local is_known = redis.call('ZSCORE', IDS, id) and redis.call('ZSCORE', LOG, id) and redis.call('ZSCORE', SPACES, space)
  local left = changed and redis.call('PTTL', key)
  if changed and (not is_known or (left > 0 and not redis.call('ZSCORE', EXPIRY, id))) then
    redis.call('ZADD', IDS, 0, id)
    redis.call('ZADD', LOG, changed, id)
    redis.call('ZADD', SPACES, 0, space)
    redis.call('ZREM', GONE, id)
    if left > 0 then redis.call('ZADD', EXPIRY, whole(math.floor(now / 1000) + left), id) end
    found = found + 1
  end
end
if found > 0 then redis.call('HSET', HEAD, 'format', FORMAT, 'version', version, 'horizon', version) end
return found
