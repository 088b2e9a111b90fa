-- Replace a history's messages. All or nothing.
-- ARGV: expiry rule, operation id, 'absent' to write only if there is none, first and last activity in
-- milliseconds ('': as it was, now), then id (or '') and body of each message, at least one.
-- Returns {KEPT, length, time of expiry, 1 if it was written}, {FOREIGN, key, kind}.

local how, ms = string.match(ARGV[1], '^(.)(%d*)$')
local operation, condition, began, used = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local kind, refusal = history_kind()
if refusal then return refusal end

local now = now_ms()
local is_done = redis.call('ZSCORE', KEYS[2], 'o' .. operation)
local left = redis.call('PTTL', KEYS[1])
local before = kind == 'list' and redis.call('LLEN', KEYS[1]) or 0
if is_done or (condition == 'absent' and kind ~= 'none') then
  return {KEPT, before, left < 0 and -1 or now + left, is_done and 1 or 0}
end
if began == '' then
  began = kind == 'none' and now or redis.call('ZSCORE', KEYS[2], 'began')
end

local bodies, number, in_this_call = {}, 0, {}
local numbers = {used ~= '' and used or now, 'used', -now, 'o' .. operation}
if began then
  numbers[5], numbers[6] = began, 'began'
end
for index = 6, #ARGV, 2 do
  local id = ARGV[index]
  bodies[#bodies + 1] = ARGV[index + 1]
  if id ~= '' and not in_this_call[id] then
    in_this_call[id] = true
    number = number + 1
    numbers[#numbers + 1] = number
    numbers[#numbers + 1] = 'm' .. id
  end
end
if number > 0 then
  numbers[#numbers + 1] = LAST_ID + number
  numbers[#numbers + 1] = 'last'
end

-- Commands that may be refused, in forms that change nothing: see history_shared.
redis.call('ZADD', KEYS[2], 'XX', 0, '')
set_expiry(how, ms, left, now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. OPERATION_REMEMBERED_MS - now, '(0')
if kind == 'string' then
  local refused = redis.pcall('RPUSH', KEYS[1], '')
  if not string.find(refused.err or '', 'WRONGTYPE', 1, true) then return refused end
  redis.call('DEL', KEYS[1])
elseif kind == 'list' then
  redis.call('LTRIM', KEYS[1], 0, -1)
end

for from = 1, #bodies, CHUNK do
  redis.call('RPUSH', KEYS[1], unpack(bodies, from, math.min(from + CHUNK - 1, #bodies)))
end
if before > 0 then redis.call('LTRIM', KEYS[1], before, -1) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, '+inf')
for from = 1, #numbers, CHUNK do
  redis.call('ZADD', KEYS[2], unpack(numbers, from, math.min(from + CHUNK - 1, #numbers)))
end
return {KEPT, #bodies, set_expiry(how, ms, left, now), 1}
