-- Puts other messages in a history's place. All or nothing.
-- ARGV: expiry rule, operation id, then id (or '') and body of each message, at least one.
-- Answers {KEPT, length, time of expiry}, {FOREIGN, key, kind}.

local rule, operation = ARGV[1], ARGV[2]
local kind, refusal = history_kind()
if refusal then return refusal end

local now = now_ms()
if kind == 'list' and already_done(operation) then
  local left = redis.call('PTTL', KEYS[1])
  return {KEPT, redis.call('LLEN', KEYS[1]), left < 0 and -1 or now + left}
end
local began = kind == 'none' and whole(now) or redis.call('ZSCORE', KEYS[2], 'began')
redis.call('DEL', KEYS[1], KEYS[2])

local bodies, numbers, number, in_this_call = {}, {whole(now), 'used'}, 0, {}
if began then
  numbers[3], numbers[4] = began, 'began'
end
for index = 3, #ARGV, 2 do
  local id = ARGV[index]
  bodies[#bodies + 1] = ARGV[index + 1]
  if id ~= '' and not in_this_call[id] then
    in_this_call[id] = true
    number = number + 1
    numbers[#numbers + 1] = whole(number)
    numbers[#numbers + 1] = 'm' .. id
  end
end
push(bodies)
add_numbers(numbers)
remember_operation(operation, now)
return {KEPT, #bodies, set_expiry(rule, -2, now)}
