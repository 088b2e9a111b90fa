-- The namespaces that have items: first and last as ZRANGE BYLEX has them.
local head = redis.call('HMGET', HEAD, 'format', 'version')
local wrong = format_error(head[1])
if wrong then return wrong end
if not head[1] then return {} end
local now = now_us()
local version = whole(math.max(now, tonumber(head[2]) + 1))
if #redis.call('ZRANGE', EXPIRY, '-inf', '(' .. whole(math.floor(now / 1000)), 'BYSCORE', 'LIMIT', 0, 1) > 0 then
  redis.call('HSET', HEAD, 'version', version)
  while drop_expired(now, version, 1000) > 0 do end
end
return redis.call('ZRANGE', SPACES, ARGV[1], ARGV[2], 'BYLEX')
