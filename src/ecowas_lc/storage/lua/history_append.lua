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

-- Of what the companion may know: the last number that an id got, or, where an id is missing, when it was written and
-- whether the operation was done; then each id.
local names = operation == '' and {'last'} or {'last', 'used', 'o' .. operation}
local before_ids = #names
for index = 2 + count, #ARGV, 2 do names[#names + 1] = 'm' .. ARGV[index] end

local now = now_ms()
local left = redis.call('PTTL', KEYS[1])
local length = redis.pcall('LLEN', KEYS[1])
local is_new = length == 0
local known, problem
if type(length) == 'number' then known, problem = numbers_of(names) end
if not known then
  local kind, refusal = history_kind()
  if refusal then return refusal end
  if kind ~= 'string' then return problem or length end
  local text = redis.call('GET', KEYS[1])
  if redis.sha1hex(text) ~= sha then return {LEGACY, text} end
  local elements = {}
  for index = 2, 1 + count do elements[#elements + 1] = ARGV[index] end
  ask_for_memory(now)
  redis.call('DEL', KEYS[1], KEYS[2])
  length = push(elements)
  known = {}
elseif is_new then
  ask_for_memory(now)
  redis.call('DEL', KEYS[2]) -- the list was evicted or deleted by hand: its ids mean nothing any more
  known = {}
elseif operation ~= '' and known[3] then
  write_again(now)
  return answer(length, left, false)
end

local bodies, numbers, in_this_call = {}, {now, 'used'}, {}
if is_new then
  numbers[3], numbers[4] = now, 'began'
end
local first_number, number
for index = 2 + count, #ARGV, 2 do
  local id, body = ARGV[index], ARGV[index + 1]
  if id == '' then
    bodies[#bodies + 1] = body
  elseif not in_this_call[id] and not known[before_ids + 1 + (index - 2 - count) / 2] then
    in_this_call[id] = true
    first_number = first_number or (known[1] and known[1] - LAST_ID or 0) + 1
    number = number and number + 1 or first_number
    numbers[#numbers + 1] = number
    numbers[#numbers + 1] = 'm' .. id
    bodies[#bodies + 1] = body
  end
end
if number then
  numbers[#numbers + 1] = LAST_ID + number
  numbers[#numbers + 1] = 'last'
end
if operation ~= '' then
  numbers[#numbers + 1] = -now
  numbers[#numbers + 1] = 'o' .. operation
end
if #bodies > 0 then length = push(bodies) end
add_numbers(numbers)

local cut = 0
if most > 0 and length > most then
  cut = first_kept(length, most)
  redis.call('LTRIM', KEYS[1], cut, -1)
  length = length - cut
end
if operation ~= '' then forget_old_operations(now, known[2]) end
forget_old_ids(length, cut, first_number, number)
return answer(length, set_expiry(rule, left, now), is_new)
