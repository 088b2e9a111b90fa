-- Functions that the scripts over one history share. A history is two keys of one slot that expire together:
-- KEYS[1], the list of JSON objects, and KEYS[2], its companion: a sorted set of named numbers,
--   'began', 'used'  first and last write, milliseconds since 1970
--   'm' .. id        a message id that was stored, scored 1, 2, 3, ... in the order of arrival
--   'last'           the last of these scores, and LAST_ID
--   'o' .. id        an operation that was done, scored by minus its time, so that a retry can be told apart
-- What an append does is counted in microseconds: each call of the server, and each number made text, is one or two.

local KEPT, LEGACY, FOREIGN = 1, 0, 2
local LAST_ID = 1000000000000          -- beyond it lie times in milliseconds
local IDS_REMEMBERED_AFTER_TRIM = 256
local IDS_FORGOTTEN_AT_ONCE = 32
local OPERATIONS_REMEMBERED = 1000
local OPERATION_REMEMBERED_MS = 120000 -- longer than any retry of a lost connection takes
local CHUNK = 1000                     -- unpack() of many thousands of values overflows Lua's stack

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local function kind_of(key)
  return redis.call('TYPE', key)['ok']
end

-- 'none', 'list' or 'string' (the list as one JSON text); nil and a reply where it is somebody else's.
local function history_kind()
  local kind = kind_of(KEYS[1])
  if kind ~= 'none' and kind ~= 'list' and kind ~= 'string' then
    return nil, {FOREIGN, KEYS[1], kind}
  end
  local companion = kind_of(KEYS[2])
  if companion ~= 'none' and companion ~= 'zset' then
    return nil, {FOREIGN, KEYS[2], companion}
  end
  return kind
end

-- Comes before a script's first DEL: a server that is out of memory refuses a script's first write only, and DEL is
-- never refused, so that what follows it would be let through.
local function ask_for_memory(now)
  redis.call('ZADD', KEYS[2], whole(now), 'used')
end

-- What the companion has for each name, false where it has none; nil and an error where it can't be asked.
local function numbers_of(names)
  local found = {}
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    local some = redis.pcall('ZMSCORE', KEYS[2], unpack(names, first, last))
    if some.err then return nil, some end
    if last == #names and first == 1 then return some end
    for index = first, last do found[index] = some[index - first + 1] end
  end
  return found
end

-- Answers how many elements the list has then.
local function push(elements)
  local length
  for first = 1, #elements, CHUNK do
    local last = math.min(first + CHUNK - 1, #elements)
    length = redis.call('RPUSH', KEYS[1], unpack(elements, first, last))
  end
  return length
end

local function add_numbers(pairs_)
  for first = 1, #pairs_, CHUNK do
    redis.call('ZADD', KEYS[2], unpack(pairs_, first, math.min(first + CHUNK - 1, #pairs_)))
  end
end

-- A WAIT behind a script that writes nothing waits for nothing: so what was done already is written again.
local function write_again(now)
  redis.call('ZADD', KEYS[2], whole(now), 'used')
end

local function already_done(operation, now)
  local done = operation ~= '' and redis.call('ZSCORE', KEYS[2], 'o' .. operation)
  if done then write_again(now) end
  return done
end

-- used: when the companion was written before. This would cost half an append, so once a second has to be enough.
local function forget_old_operations(now, used)
  if not used or math.floor(used / 1000) == math.floor(now / 1000) then return end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. whole(OPERATION_REMEMBERED_MS - now), '(0')
  local held = redis.call('ZCOUNT', KEYS[2], '-inf', '(0')
  if held > OPERATIONS_REMEMBERED then
    redis.call('ZREMRANGEBYRANK', KEYS[2], OPERATIONS_REMEMBERED, held - 1)
  end
end

-- length: of the list; cut: how many went from it just now; first, last: the numbers that ids got just now, if any.
local function forget_old_ids(length, cut, first, last)
  local most = length + IDS_REMEMBERED_AFTER_TRIM
  local has_passed = first and last > most
    and math.floor((first - 1) / IDS_FORGOTTEN_AT_ONCE) < math.floor(last / IDS_FORGOTTEN_AT_ONCE)
  if cut < IDS_FORGOTTEN_AT_ONCE and not has_passed then return end
  local excess = redis.call('ZCOUNT', KEYS[2], '(0', LAST_ID) - most
  if excess > 0 then
    local at = redis.call('ZCOUNT', KEYS[2], '-inf', '(0')
    redis.call('ZREMRANGEBYRANK', KEYS[2], at, at + excess - 1)
  end
end

-- rule '=ms': expire in ms; '>ms': in ms, or later where it already lives longer; '>': never.
-- left: what PTTL said before the write. Answers the time of expiry in milliseconds, -1 for never.
local function set_expiry(rule, left, now)
  local ms = tonumber(string.sub(rule, 2))
  local longer = string.sub(rule, 1, 1) == '>'
  if not ms or (longer and left == -1) then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[2])
    return -1
  end
  if longer then ms = math.max(ms, left) end
  local at = whole(now + ms)
  redis.call('PEXPIREAT', KEYS[1], at)
  redis.call('PEXPIREAT', KEYS[2], at)
  return now + ms
end
