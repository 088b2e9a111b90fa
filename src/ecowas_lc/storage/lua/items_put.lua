-- Store and delete items: dimensions of their vectors or '', then for each item: id, 'put' or 'delete', milliseconds
-- to live ('left/whole' if a part of them has passed) or '', the version it must have now or '' ('0': none),
-- the operation's own id or '', value, vectors in 8 bits, vectors in 32 bits, words ('': none),
-- when it was created if the item is new ('': now).
-- Returns {'ok', version}, {'conflict', which item, its version} or {'dimensions', the bucket's dimensions};
-- with the last two, nothing was written.
local WORDS = 10
local head = redis.call('HMGET', HEAD, 'format', 'version', 'dimensions')
local wrong = format_error(head[1])
if wrong then return wrong end
local dimensions = ARGV[1]
if dimensions ~= '' and head[3] and head[3] ~= dimensions then return { 'dimensions', head[3] } end

local count = (#ARGV - 1) / WORDS
local created, done, puts, deletes = {}, {}, 0, 0
for i = 1, count do
  local at = 2 + (i - 1) * WORDS
  local key, action, expected, operation = KEYS[FIRST_ITEM + i - 1], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  local row = redis.call('HMGET', key, 'h', 'o')
  local version = '0'
  if row[1] then
    created[i], version = string.match(row[1], '^1 (%d+) (%d+) %d+$')
    if not version then
      return redis.error_reply('ECOWASFORMAT An item is stored in a format that this version of ecowas_lc does not ' ..
        'read. Upgrade ecowas_lc.')
    end
  elseif redis.call('EXISTS', key) == 1 then
    return redis.error_reply("ECOWASTYPE An item's key holds a hash that is not an item; it was left as it is.")
  end
  if expected ~= '' then
    if operation ~= '' and row[2] == operation then
      done[i] = true -- sent again, because the connection broke before the answer
    elseif version ~= expected then
      return { 'conflict', i, version }
    end
  end
  if action == 'put' then
    if not done[i] then puts = puts + 1 end
  elseif row[1] or redis.call('ZSCORE', LOG, ARGV[at]) then -- expired and evicted items leave the indexes, too
    deletes = deletes + 1
  else
    done[i] = true
  end
end
if puts + deletes == 0 then return { 'ok', head[2] or '0' } end

local now = now_us()
local version = whole(math.max(now, (tonumber(head[2]) or 0) + 1))
-- A server that is out of memory refuses only a script's first write, and never a removal.
local function begin()
  redis.call('HSET', HEAD, 'format', FORMAT, 'version', version)
  if not head[1] then redis.call('HSET', HEAD, 'horizon', version) end
  if dimensions ~= '' and not head[3] then redis.call('HSET', HEAD, 'dimensions', dimensions) end
end
if puts > 0 then begin() end
for i = 1, count do
  local at = 2 + (i - 1) * WORDS
  local key, id, ttl = KEYS[FIRST_ITEM + i - 1], ARGV[at], ARGV[at + 2]
  local left, whole_ttl = string.match(ttl, '^(%d+)/(%d+)$')
  if left then ttl = whole_ttl else left = ttl end
  if done[i] then
    -- nothing
  elseif ARGV[at + 1] == 'delete' then
    redis.call('UNLINK', key)
    leave_indexes(id)
    remember_gone(id, version)
  else
    if created[i] then redis.call('UNLINK', key) end
    local fields = { 'h', '1 ' .. (created[i] or (ARGV[at + 9] ~= '' and ARGV[at + 9]) or version) .. ' ' .. version .. ' ' .. (ttl == '' and '0' or ttl) }
    for offset, name in pairs({ [4] = 'o', [5] = 'v', [6] = 'q', [7] = 'f', [8] = 'w' }) do
      if ARGV[at + offset] ~= '' then
        fields[#fields + 1] = name
        fields[#fields + 1] = ARGV[at + offset]
      end
    end
    redis.call('HSET', key, unpack(fields))
    if ttl == '' then
      redis.call('ZREM', EXPIRY, id)
    else
      local at_ms = whole(math.floor(now / 1000) + tonumber(left))
      redis.call('PEXPIREAT', key, at_ms)
      redis.call('ZADD', EXPIRY, at_ms, id)
    end
    redis.call('ZADD', IDS, 0, id)
    redis.call('ZADD', LOG, version, id)
    redis.call('ZREM', GONE, id)
    redis.call('ZADD', SPACES, 0, space_of(id))
  end
end
if puts == 0 then begin() end
drop_expired(now, version, 100)
return { 'ok', version }
