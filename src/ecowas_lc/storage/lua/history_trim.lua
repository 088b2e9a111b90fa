-- Where a history may be cut: never between a call of tools and its results.

local function is_tool_result(index)
  local body = redis.call('LINDEX', KEYS[1], index)
  if not string.find(body, '"role"%s*:%s*"tool"') and not string.find(body, '"role"%s*:%s*"function"') then
    return false
  end
  local readable, message = pcall(cjson.decode, body)
  return readable and type(message) == 'table' and (message['role'] == 'tool' or message['role'] == 'function')
end

-- The index of the first message to keep, so that about the last `most` of `length` stay: results whose call is
-- cut off go too; where nothing but results would be left, their call stays with them.
local function first_kept(length, most)
  local cut = length - most
  for index = cut, length - 1 do
    if not is_tool_result(index) then return index end
  end
  for index = cut - 1, math.max(cut - most, 0), -1 do
    if not is_tool_result(index) then return index end
  end
  return cut
end
