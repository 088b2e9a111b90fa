-- An index is a sorted set of names, each scored by the time (milliseconds) at which what it names expires,
-- so it can drop the expired by itself, and it expires as a whole with the last of them.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local function drop_expired(now)
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. whole(now))
end
