-- Read items: the fields wanted, a letter each, then with 'refresh' in their place the items' ids. Then KEYS[1] is the
-- bucket's expiry, and the time to live of each item starts again. Answers a row of fields for each item.
local fields = {}
for letter in string.gmatch(ARGV[1], '.') do fields[#fields + 1] = letter end
local refresh = #ARGV > 1
local first = refresh and 2 or 1
local now
local rows = {}
for i = first, #KEYS do
  local row = redis.call('HMGET', KEYS[i], unpack(fields))
  local ttl = refresh and row[1] and string.match(row[1], '^%d+ %d+ %d+ ([1-9]%d*)$')
  if ttl then
    if not now then
      local time = redis.call('TIME')
      now = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    local at_ms = string.format('%.0f', now + tonumber(ttl))
    redis.call('PEXPIREAT', KEYS[i], at_ms)
    redis.call('ZADD', KEYS[1], 'XX', at_ms, ARGV[i])
  end
  rows[#rows + 1] = row
end
return rows
