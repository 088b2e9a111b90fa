-- Appends messages, each id once; trims; renews. All or nothing.
-- ARGV: 'rule most operation sha count', then id (or '') and body of count older messages, then those of each new
-- one. Of the first: expiry rule; most messages to keep (0: all); operation id (or nothing); SHA-1 of the legacy text
-- that the older ones stand for (or nothing). They are one argument, since most appends are small.
-- Answers {KEPT, length}, and where the history is new or never expires also whether it is new and whether it never
-- expires; {LEGACY, text} where the list is one JSON text yet; {FOREIGN, key, kind}.

local IDS_REMEMBERED_AFTER_TRIM = 256
local IDS_FORGOTTEN_AT_ONCE = 32
local OPERATIONS_REMEMBERED = 1000
local OPERATION_REMEMBERED_MS = 120000 -- longer than any retry of a lost connection takes

local how, ms, most, operation, sha, count = string.match(ARGV[1], '^(.)(%d*) (%d+) (%w*) (%x*) (%d+)$')
local first = 2 + 2 * count

-- What the companion may know: the last number that an id got; each id; where one is missing, whether the operation
-- was done, and when the companion was written.
local names = {'last'}
for index = first, #ARGV, 2 do names[#names + 1] = 'm' .. ARGV[index] end
if operation ~= '' then
  names[#names + 1] = 'o' .. operation
  names[#names + 1] = 'used'
end

local problem -- why it can't be done here
repeat -- once: a break leads to what is behind
  local now = now_ms()
  local left = redis.call('PTTL', KEYS[1])
  local is_new = left == -2
  local known = redis.pcall('ZMSCORE', KEYS[2], unpack(names, 1, math.min(CHUNK, #names)))
  if known.err then problem = known break end
  for from = CHUNK + 1, #names, CHUNK do
    local more = redis.call('ZMSCORE', KEYS[2], unpack(names, from, math.min(from + CHUNK - 1, #names)))
    for index = 1, #more do known[from + index - 1] = more[index] end
  end

  local is_legacy = sha ~= '' and redis.call('TYPE', KEYS[1])['ok'] == 'string'
  if is_legacy and redis.sha1hex(redis.call('GET', KEYS[1])) ~= sha then break end
  if is_new or is_legacy then
    -- A server that is out of memory refuses a script's first write only, and DEL is never refused, so that what
    -- follows it would be let through: hence it is not the first.
    redis.call('ZADD', KEYS[2], now, 'used')
    -- Of a new list, too: the one before was evicted or deleted by hand, and its ids mean nothing any more.
    redis.call('DEL', KEYS[1], KEYS[2])
    known = {}
  end
  local is_done = operation ~= '' and known[#names - 1]

  local bodies, numbers, in_this_call = {}, {now, 'used'}, {}
  if is_new then
    numbers[3], numbers[4] = now, 'began'
  end
  local first_number, number
  for index = 2, is_legacy and first - 1 or 0, 2 do
    local id = ARGV[index]
    bodies[#bodies + 1] = ARGV[index + 1]
    if id ~= '' and not in_this_call[id] then
      in_this_call[id] = true
      first_number = 1
      number = (number or 0) + 1
      numbers[#numbers + 1] = number
      numbers[#numbers + 1] = 'm' .. id
    end
  end
  for index = first, is_done and 0 or #ARGV, 2 do
    local id = ARGV[index]
    if id == '' then
      bodies[#bodies + 1] = ARGV[index + 1]
    elseif not in_this_call[id] and not known[2 + (index - first) / 2] then
      in_this_call[id] = true
      first_number = first_number or (known[1] and known[1] - LAST_ID or 0) + 1
      number = number and number + 1 or first_number
      numbers[#numbers + 1] = number
      numbers[#numbers + 1] = 'm' .. id
      bodies[#bodies + 1] = ARGV[index + 1]
    end
  end

  local length = #bodies == 0 and redis.pcall('LLEN', KEYS[1])
  for from = 1, #bodies, CHUNK do
    length = redis.pcall('RPUSH', KEYS[1], unpack(bodies, from, math.min(from + CHUNK - 1, #bodies)))
    if type(length) ~= 'number' then break end
  end
  if type(length) ~= 'number' then problem = length break end
  local expires_at = left
  if not is_done then
    if number then
      numbers[#numbers + 1] = LAST_ID + number
      numbers[#numbers + 1] = 'last'
    end
    if operation ~= '' then
      numbers[#numbers + 1] = -now
      numbers[#numbers + 1] = 'o' .. operation
    end
    for from = 1, #numbers, CHUNK do
      redis.call('ZADD', KEYS[2], unpack(numbers, from, math.min(from + CHUNK - 1, #numbers)))
    end

    local cut = 0
    if most ~= '0' and length > tonumber(most) then
      cut = first_kept(length, tonumber(most))
      redis.call('LTRIM', KEYS[1], cut, -1)
      length = length - cut
    end
    expires_at = set_expiry(how, ms, left, now)

    -- Old operations would cost half an append, so that once a second has to be enough.
    local used = operation ~= '' and known[#names]
    if used and math.floor(used / 1000) ~= math.floor(now / 1000) then
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. OPERATION_REMEMBERED_MS - now, '(0')
      local held = redis.call('ZCOUNT', KEYS[2], '-inf', '(0')
      if held > OPERATIONS_REMEMBERED then
        redis.call('ZREMRANGEBYRANK', KEYS[2], OPERATIONS_REMEMBERED, held - 1)
      end
    end

    local most_ids = length + IDS_REMEMBERED_AFTER_TRIM
    if cut >= IDS_FORGOTTEN_AT_ONCE or (number and number > most_ids
        and math.floor((first_number - 1) / IDS_FORGOTTEN_AT_ONCE) < math.floor(number / IDS_FORGOTTEN_AT_ONCE)) then
      local excess = redis.call('ZCOUNT', KEYS[2], '(0', LAST_ID) - most_ids
      if excess > 0 then
        local at = redis.call('ZCOUNT', KEYS[2], '-inf', '(0')
        redis.call('ZREMRANGEBYRANK', KEYS[2], at, at + excess - 1)
      end
    end
  end

  if not is_new and expires_at ~= -1 then return {KEPT, length} end
  return {KEPT, length, is_new and 1 or 0, expires_at == -1 and 1 or 0}
until true
