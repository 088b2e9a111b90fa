-- Append messages, each id once; trim; renew. All or nothing.
-- ARGV: 'rule most operation sha count ages reset', then id (or '') and body of count older messages, then those of each new
-- one. Of the first: expiry rule; most messages to keep (0: all); operation id (or nothing); SHA-1 of the legacy text
-- that the older ones stand for (or nothing); how many milliseconds ago each new one was said, with commas (or
-- nothing): one that was said before the history was last removed is left out; the operation by which the caller
-- itself last removed it, before it said these (or nothing). They are one argument, since most appends are small.
-- Returns {KEPT, length}, and if the history is new or never expires also whether it is new and whether it never
-- expires; {LEGACY, text} if the list is still one JSON text; {FOREIGN, key, kind}.

local IDS_REMEMBERED_AFTER_TRIM = 256 -- and all of the last OPERATION_REMEMBERED_MS
local IDS_FORGOTTEN_AT_ONCE = 32
local MARK_EVERY_MS = 1000
local LOOKED_THROUGH = 20000 -- messages to search at the end of a list that has lost its companion

local how, ms, most, operation, sha, count, ages, reset =
  string.match(ARGV[1], '^(.)(%d*) (%d+) (%w*) (%x*) (%d+) ?([%d,]*) ?(%w*)$')
local first = 2 + 2 * count
most = tonumber(most)

-- What the companion may know: the last number that an id got; when it was written; each id; where one is missing,
-- whether the operation was done; where ages are given, when the history was removed.
local names = {'last', 'used'}
for index = first, #ARGV, 2 do names[#names + 1] = 'm' .. ARGV[index] end
local own, removed = #names + 1, 0
if operation ~= '' then names[own] = 'o' .. operation end
if ages ~= '' then
  removed = #names + 1
  names[removed], names[removed + 1], names[removed + 2] = 'cleared', 'o' .. reset, 'n' .. reset
end

local problem -- why nothing can be appended here
repeat -- runs once: a break leaves it
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
  local is_done = operation ~= '' and known[own]
  local used = known[2]
  -- Also for a new list: the previous one was evicted or deleted by hand, so its ids mean nothing now.
  local begins = is_new or is_legacy
  local last = not begins and known[1] and known[1] - LAST_ID or 0

  local bodies, numbers, in_this_call = {}, {now, 'used'}, {}
  if is_new then
    numbers[3], numbers[4] = now, 'began'
  end
  local number = last
  local function add(id, body)
    if id ~= '' then
      in_this_call[id] = true
      number = number + 1
      numbers[#numbers + 1] = number
      numbers[#numbers + 1] = 'm' .. id
    end
    bodies[#bodies + 1] = body
  end
  if not begins and not used then
    -- The companion was evicted, or another program made the list: its ids are in the messages themselves.
    local length = redis.pcall('LLEN', KEYS[1])
    if type(length) ~= 'number' then problem = length break end
    for from = math.max(0, length - LOOKED_THROUGH), length - 1, CHUNK do
      for _, body in ipairs(redis.call('LRANGE', KEYS[1], from, math.min(from + CHUNK, length) - 1)) do
        local readable, message = pcall(cjson.decode, string.find(body, '"id"', 1, true) and body or '0')
        local id = readable and type(message) == 'table' and message['id']
        if type(id) == 'string' and id ~= '' and not in_this_call[id] then
          add(id)
          bodies = {}
        end
      end
    end
  end
  for index = 2, is_legacy and first - 1 or 0, 2 do
    local id = ARGV[index]
    if id ~= '' and in_this_call[id] then
      bodies[#bodies + 1] = ARGV[index + 1]
    else
      add(id, ARGV[index + 1])
    end
  end
  local cleared = removed > 0 and known[removed] and -known[removed] - MARKS or 0
  local by_caller = cleared > 0 and (known[removed + 1] or known[removed + 2])
  if by_caller and cleared <= -by_caller then cleared = 0 end
  local next_age = string.gmatch(ages, '%d+')
  for index = first, is_done and 0 or #ARGV, 2 do
    local id = ARGV[index]
    local is_gone = ages ~= '' and tonumber(next_age()) > now - cleared
    if not is_gone and (id == '' or not in_this_call[id]
        and (begins or not known[3 + (index - first) / 2])) then
      add(id, ARGV[index + 1])
    end
  end
  if is_new and #bodies == 0 then return {KEPT, 0} end -- already done and then removed, or said before the removal

  redis.call('ZADD', KEYS[2], 'XX', 0, '') -- changes nothing, see history_shared
  local expires_at = left
  if not is_done then expires_at = set_expiry(how, ms, left, now) end
  if begins then redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, '+inf') end
  if is_legacy then
    local refused = redis.pcall('RPUSH', KEYS[1], '')
    if not string.find(refused.err or '', 'WRONGTYPE', 1, true) then return refused end
    redis.call('DEL', KEYS[1])
  end

  local before = (is_done or #bodies == 0 or (most > 0 and not begins)) and redis.pcall('LLEN', KEYS[1]) or 0
  if type(before) ~= 'number' then problem = before break end
  local cut = 0
  if not is_done then
    if number > last then
      numbers[#numbers + 1] = LAST_ID + number
      numbers[#numbers + 1] = 'last'
    end
    if operation ~= '' then
      numbers[#numbers + 1] = -now
      numbers[#numbers + 1] = 'o' .. operation
    end
    if ages ~= '' then
      numbers[#numbers + 1] = -MARKS - now
      numbers[#numbers + 1] = 'journal'
    end
    -- Removing old operations costs half an append, so it is done at most once a second.
    if used and math.floor(used / 1000) ~= math.floor(now / 1000) then
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. OPERATION_REMEMBERED_MS - now, '(0')
    end
    local length = before + #bodies
    if most > 0 and length > most then
      cut = first_kept(before, bodies, most)
      redis.call('LTRIM', KEYS[1], 0, -1)
      local most_ids = length - cut + IDS_REMEMBERED_AFTER_TRIM
      if cut >= IDS_FORGOTTEN_AT_ONCE or (number > most_ids
          and math.floor(last / IDS_FORGOTTEN_AT_ONCE) < math.floor(number / IDS_FORGOTTEN_AT_ONCE)) then
        local latest = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', MARKS, 'WITHSCORES', 'LIMIT', 0, 1)
        if not latest[2] or now - (latest[2] - MARKS) >= MARK_EVERY_MS then
          numbers[#numbers + 1] = MARKS + now
          numbers[#numbers + 1] = 't' .. number
        end
        local long_ago = MARKS + now - OPERATION_REMEMBERED_MS
        local mark = redis.call('ZREVRANGEBYSCORE', KEYS[2], long_ago, MARKS, 'LIMIT', 0, 1)[1]
        if mark then
          local known_ids = redis.call('ZCOUNT', KEYS[2], '(0', LAST_ID) + number - last
          local old_ids = redis.call('ZCOUNT', KEYS[2], '(0', string.sub(mark, 2))
          local excess = math.min(known_ids - most_ids, old_ids)
          if excess > 0 then
            local at = redis.call('ZCOUNT', KEYS[2], '-inf', '(0')
            redis.call('ZREMRANGEBYRANK', KEYS[2], at, at + excess - 1)
          end
          redis.call('ZREMRANGEBYSCORE', KEYS[2], MARKS, '(' .. long_ago - MARK_EVERY_MS)
        end
      end
    end
  end

  local length = before
  for from = 1, #bodies, CHUNK do
    length = redis.pcall('RPUSH', KEYS[1], unpack(bodies, from, math.min(from + CHUNK - 1, #bodies)))
    if type(length) ~= 'number' then break end
  end
  if type(length) ~= 'number' then problem = length break end
  if not is_done then
    for from = 1, #numbers, CHUNK do
      redis.call('ZADD', KEYS[2], unpack(numbers, from, math.min(from + CHUNK - 1, #numbers)))
    end
    if cut > 0 then
      redis.call('LTRIM', KEYS[1], cut, -1)
      length = length - cut
    end
    if begins then set_expiry(how, ms, left, now) end
  end

  if not is_new and expires_at ~= -1 then return {KEPT, length} end
  return {KEPT, length, is_new and 1 or 0, expires_at == -1 and 1 or 0}
until true
