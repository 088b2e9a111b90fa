-- Where a history may be cut: never between a tool call and its results.

-- The index of the first message to keep, so that about the last `most` of `before` in the list and those in `added`
-- stay: results whose call is cut off go too; if only results would be left, their call stays with them.
local function first_kept(before, added, most)
  local MOST_RESULTS = 100 -- of one call, which stay with it if only they would be left
  local RESULTS = {tool = true, ['function'] = true}
  local CALLERS = {assistant = true, ai = true}

  local function has_role(index, roles)
    local body = index < before and redis.call('LINDEX', KEYS[1], index) or added[index - before + 1]
    for role in pairs(roles) do
      if string.find(body, '"role"%s*:%s*"' .. role .. '"') then
        local readable, message = pcall(cjson.decode, body)
        return readable and type(message) == 'table' and roles[message['role']] or false
      end
    end
    return false
  end

  local length = before + #added
  local cut = length - most
  for index = cut, length - 1 do
    if not has_role(index, RESULTS) then return index end
  end
  for index = cut - 1, math.max(length - MOST_RESULTS - 1, 0), -1 do
    if not has_role(index, RESULTS) then
      return has_role(index, CALLERS) and index or cut
    end
  end
  return cut
end
