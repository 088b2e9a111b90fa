-- Appends messages, each id once; trims; renews. All or nothing.
-- ARGV: 'rule most operation sha count', then count elements, then id (or '') and body of each message. Of the
-- first: expiry rule; most messages to keep (0: all); operation id (or nothing); SHA-1 of the legacy text that the
-- elements stand for (or nothing). They are one argument, since most appends are small.
-- Answers {KEPT, length}, and where the history is new or never expires also whether it is new and whether it never
-- expires; {LEGACY, text} where the list is one JSON text yet; {FOREIGN, key, kind}.

local rule, most, operation, sha, count = string.match(ARGV[1], '^(%S+) (%d+) (%w*) (%x*) (%d+)$')
most, count = tonumber(most), tonumber(count)

local function answer(length, expires_at, is_new)
  if not is_new and expires_at ~= -1 then return {KEPT, length} end
  return {KEPT, length, is_new and 1 or 0, expires_at == -1 and 1 or 0}
end

local kind, refusal = history_kind()
if refusal then return refusal end

local now = now_ms()
local left = redis.call('PTTL', KEYS[1])
local is_new = kind == 'none'
if kind == 'string' then
  local text = redis.call('GET', KEYS[1])
  if redis.sha1hex(text) ~= sha then return {LEGACY, text} end
  local elements = {}
  for index = 2, 1 + count do elements[#elements + 1] = ARGV[index] end
  ask_for_memory(now)
  redis.call('DEL', KEYS[1], KEYS[2])
  push(elements)
elseif is_new then
  ask_for_memory(now)
  redis.call('DEL', KEYS[2]) -- the list was evicted or deleted by hand: its ids mean nothing any more
elseif already_done(operation, now) then
  return answer(redis.call('LLEN', KEYS[1]), left, false)
end

local bodies, numbers, in_this_call = {}, {whole(now), 'used'}, {}
if is_new then
  numbers[3], numbers[4] = whole(now), 'began'
end
local number
for index = 2 + count, #ARGV, 2 do
  local id, body = ARGV[index], ARGV[index + 1]
  if id == '' then
    bodies[#bodies + 1] = body
  elseif not in_this_call[id] and not redis.call('ZSCORE', KEYS[2], 'm' .. id) then
    in_this_call[id] = true
    number = (number or last_id_number()) + 1
    numbers[#numbers + 1] = whole(number)
    numbers[#numbers + 1] = 'm' .. id
    bodies[#bodies + 1] = body
  end
end
push(bodies)
add_numbers(numbers)
remember_operation(operation, now)

local length = redis.call('LLEN', KEYS[1])
if most > 0 and length > most then
  redis.call('LTRIM', KEYS[1], first_kept(length, most), -1)
  length = redis.call('LLEN', KEYS[1])
end
if number and number > IDS_REMEMBERED_AFTER_TRIM then forget_old_ids(length) end
return answer(length, set_expiry(rule, left, now), is_new)
