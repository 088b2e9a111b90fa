-- A thread is one hash (see docs/storage-format.md): its fields are named by their first letter.
--   format            the storage format's version
--   pinned            present where the thread never expires
--   N                 newest namespace;   M<ns>  the namespace before it
--   L<ns>             id of the namespace's latest checkpoint
--   c<ns>\0<id>       a checkpoint: link to the one before it, then what the client made
--   w<ns>\0<id>\0<k>  the k-th batch of writes pending on a checkpoint
--   v<ns>\0<channel>\0<version>  a channel's value: 'p' + blob, or 'l' + wrapper + mark + pieces of the list log
--   g<ns>\0<channel>\0<segment>  list log: SEGMENT digests of list elements;  n<ns>\0<channel>  how many
--   e<digest>         an element
--   r<run id>         present where this run wrote checkpoints
-- A blob begins with how many elements it refers to (2 bytes) and their digests (16 bytes each).
-- All checks come before the first write: a script that fails half way is not rolled back.
local H = KEYS[1]
local FORMAT = '1'
local SEGMENT = 64
local CHUNK = 2000 -- unpack() of about 8,000 values overflows the stack
local WITHOUT_CHECKPOINTS_MS = 3600000

local function check_format()
  local found = redis.call('HGET', H, 'format')
  if found and found ~= FORMAT then
    return redis.error_reply('ECOWASFORMAT This thread is stored in format ' .. found ..
      ', and this version of ecowas_lc reads format ' .. FORMAT .. '. Upgrade ecowas_lc.')
  end
  if not found and redis.call('EXISTS', H) == 1 then
    return redis.error_reply("ECOWASTYPE The thread's key holds a hash that is not a thread; it was left as it is.")
  end
  return nil, found
end

-- Lua compares strings by the server's locale; ids are ordered by their bytes.
local function less(a, b)
  if a == b then return false end
  local n, i = math.min(#a, #b), 1
  while i + 7 <= n and string.sub(a, i, i + 7) == string.sub(b, i, i + 7) do i = i + 8 end
  while i <= n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
    i = i + 1
  end
  return #a < #b
end

local function u16(s, at) return string.byte(s, at) * 256 + string.byte(s, at + 1) end

-- A checkpoint's row: link (length + id of the one before it; SAME: it is the parent), parent, values, blob.
local SAME = 65535
local function row_link(row)
  local n = u16(row, 1)
  local after = n == SAME and 3 or 3 + n
  local np = u16(row, after)
  local parent = string.sub(row, after + 2, after + 1 + np)
  local prev = n == SAME and parent or string.sub(row, 3, 2 + n)
  return prev, parent, after
end

-- The same of the checkpoint `id`. Links lead to what is older: a loop would never end, and hold the whole server.
local function links_of(id, row)
  local prev, parent, after = row_link(row)
  if prev ~= '' and not less(prev, id) then
    error('ECOWASCORRUPT A stored checkpoint follows one that is not older.', 0)
  end
  return prev, parent, after
end

-- Every namespace, newest first.
local function spaces()
  local out, met = {}, {}
  local ns = redis.call('HGET', H, 'N')
  while ns do
    if met[ns] then error('ECOWASCORRUPT The stored namespaces lead in a circle.', 0) end
    met[ns] = true
    out[#out + 1] = ns
    ns = redis.call('HGET', H, 'M' .. ns)
  end
  return out
end

local function link(prev, body)
  local np = u16(body, 1)
  if np > 0 and prev == string.sub(body, 3, 2 + np) then return '\255\255' .. body end
  return struct.pack('>I2', #prev) .. prev .. body
end

-- The names of the value fields of a row, and where its blob begins.
local function row_values(row, after)
  local at = after + 2 + u16(row, after)
  local count = u16(row, at)
  at = at + 2
  local fields = {}
  for i = 1, count do
    local n = u16(row, at)
    fields[i] = 'v' .. string.sub(row, at + 2, at + 1 + n)
    at = at + 2 + n
  end
  return fields, at
end

local function each_ref(blob, at, visit)
  local count = u16(blob, at)
  for i = 0, count - 1 do
    visit(string.sub(blob, at + 2 + 16 * i, at + 17 + 16 * i))
  end
end

-- A list value: 'l', wrapper, mark (16 bytes, the client's seal on the whole list), pieces of the list log.
local PIECES = 19
local MOST_ITEMS = 1048576 -- clients store longer lists as other values
local function mark_of(value) return string.sub(value, 3, PIECES - 1) end

local function pieces_of(value)
  local pieces = {}
  for at = PIECES, #value, 8 do
    local start, length = struct.unpack('>I4I4', value, at)
    pieces[#pieces + 1] = { start, length }
  end
  return pieces
end

-- The digests that pieces of a list log stand for, one string; nil where the log lacks some.
local function digests_of(log, pieces)
  local out, total = {}, 0
  for _, piece in ipairs(pieces) do
    -- A few bytes of pieces can claim more items than the server has memory for.
    total = total + piece[2]
    if total > MOST_ITEMS then error('ECOWASCORRUPT A stored list claims more items than any has.', 0) end
    local start, stop = piece[1], piece[1] + piece[2]
    while start < stop do
      local segment = math.floor(start / SEGMENT)
      local upto = math.min(stop, (segment + 1) * SEGMENT)
      local held = redis.call('HGET', H, 'g' .. log .. '\0' .. segment)
      if not held or #held < 16 * (upto - segment * SEGMENT) then return nil end
      out[#out + 1] = string.sub(held, 16 * (start - segment * SEGMENT) + 1, 16 * (upto - segment * SEGMENT))
      start = upto
    end
  end
  return table.concat(out)
end

-- 'ns\0channel' of 'vns\0channel\0version'.
local function log_of(field)
  local first = string.find(field, '\0', 2, true)
  local second = string.find(field, '\0', first + 1, true)
  return string.sub(field, 2, second - 1)
end

local function expire(ttl)
  if ttl ~= '' and redis.call('HEXISTS', H, 'pinned') == 0 then redis.call('PEXPIRE', H, ttl) end
end

-- After a write. Without a ttl a thread that another saver let expire stays, as this saver promises; what came
-- before its first checkpoint, or after its last, goes by itself if none follows.
local function renew(ttl)
  if redis.call('HEXISTS', H, 'N') == 0 then
    redis.call('PEXPIRE', H, ttl == '' and WITHOUT_CHECKPOINTS_MS or math.min(ttl, WITHOUT_CHECKPOINTS_MS))
  elseif ttl == '' then
    redis.call('PERSIST', H)
  else
    expire(ttl)
  end
end

local function store_elements(words, first, last)
  for i = first, last, CHUNK do redis.call('HSET', H, unpack(words, i, math.min(i + CHUNK - 1, last))) end
end

-- Which of these digests (one string) the thread lacks.
local function missing_elements(digests, missing)
  for at = 1, #digests, 16 do
    local digest = string.sub(digests, at, at + 15)
    if redis.call('HEXISTS', H, 'e' .. digest) == 0 then missing[#missing + 1] = digest end
  end
end
