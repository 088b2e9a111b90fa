-- A bucket holds the items of some namespaces (docs/storage-format.md). KEYS: its head, ids, log, gone, expiry and
-- namespaces, then the items' own keys. Every change has a version: microseconds since 1970, and always rising.
local HEAD, IDS, LOG, GONE, EXPIRY, SPACES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FORMAT = '1'
local FIRST_ITEM = 7
local LEAST_GONE = 1000 -- minimum number of deleted items to remember, for processes that have copies of them

local function whole(number) return string.format('%.0f', number) end

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function format_error(found)
  if found and found ~= FORMAT then
    return redis.error_reply('ECOWASFORMAT These items are stored in format ' .. found ..
      ', and this version of ecowas_lc reads format ' .. FORMAT .. '. Upgrade ecowas_lc.')
  end
  if not found and redis.call('EXISTS', HEAD) == 1 then
    return redis.error_reply("ECOWASTYPE A key of the store's holds a hash that is not its own; it was left as it is.")
  end
end

-- 'a:b:' of 'a:b::key'.
local function space_of(id) return string.sub(id, 1, (string.find(id, '::', 1, true))) end

local function leave_indexes(id)
  redis.call('ZREM', IDS, id)
  redis.call('ZREM', LOG, id)
  redis.call('ZREM', EXPIRY, id)
  local space = space_of(id)
  if #redis.call('ZRANGE', IDS, '[' .. space .. ':', '(' .. space .. ';', 'BYLEX', 'LIMIT', 0, 1) == 0 then
    redis.call('ZREM', SPACES, space)
  end
end

local function remember_gone(id, version)
  redis.call('ZADD', GONE, version, id)
  local most = math.max(LEAST_GONE, math.floor(redis.call('ZCARD', IDS) / 10))
  local over = redis.call('ZCARD', GONE) - most
  if over > 0 then
    local last = redis.call('ZRANGE', GONE, over - 1, over - 1, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYRANK', GONE, 0, over - 1)
    redis.call('HSET', HEAD, 'horizon', last) -- processes that have seen nothing newer read everything again
  end
end

-- Remove items that Redis has expired from the indexes. Answers how many items did.
local function drop_expired(now, version, most)
  local due = redis.call('ZRANGE', EXPIRY, '-inf', '(' .. whole(math.floor(now / 1000)), 'BYSCORE', 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    leave_indexes(id)
    remember_gone(id, version)
  end
  return #due
end
