-- Replace a thread with its staged copy: number of fields of the copy, milliseconds to live or '', '1' to
-- replace a thread. Answers 1; 0 if the thread already exists; -1 if the copy is not a complete thread. What
-- reading would refuse is refused here.
local wrong = check_format()
if wrong then return wrong end
local source = KEYS[2]
local found = redis.call('HGET', source, 'format')
local is_whole = redis.call('HEXISTS', source, 'N') == 1 and (found == FORMAT or found == SHARED_LOGS)
if not is_whole or redis.call('HLEN', source) ~= tonumber(ARGV[1]) then
  redis.call('UNLINK', source)
  return -1
end
if ARGV[3] ~= '1' and redis.call('HEXISTS', H, 'N') == 1 then
  redis.call('UNLINK', source)
  return 0
end

local function check()
  local items, rows = {}, {}
  local function pass() end
  for _, field in ipairs(redis.call('HKEYS', H)) do
    local kind, value = string.sub(field, 1, 1), redis.call('HGET', H, field)
    if kind == 'c' then
      rows[#rows + 1] = field
    elseif kind == 'v' and string.sub(value, 1, 1) == 'l' then
      local _, total = pieces_of(value)
      items[field] = total
    elseif kind == 'v' then
      each_ref(value, 2, pass)
    elseif kind == 'e' or kind == 'w' then
      each_ref(value, 1, pass)
    end
  end
  for _, own in ipairs(rows) do
    local row, cut = redis.call('HGET', H, own), string.find(own, '\0', 2, true)
    local _, _, after = links_of(string.sub(own, cut + 1), row)
    local fields, blob = row_values(row, after)
    each_ref(row, blob, pass)
    items_of_call = 0
    for _, field in ipairs(fields) do spend(items[field] or 0) end
  end
  spaces()
end

H = source
local is_sound, why = pcall(check)
H = KEYS[1]
if not is_sound then
  redis.call('UNLINK', source)
  error(why, 0)
end
return take_place(source, ARGV[2]) or 1
