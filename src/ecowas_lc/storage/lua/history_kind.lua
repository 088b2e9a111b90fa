-- 'none', 'list' or 'string' (the list as one JSON text); nil and a reply if it belongs to another program.
local function history_kind()
  local kind = redis.call('TYPE', KEYS[1])['ok']
  if kind ~= 'none' and kind ~= 'list' and kind ~= 'string' then
    return nil, {FOREIGN, KEYS[1], kind}
  end
  local companion = redis.call('TYPE', KEYS[2])['ok']
  if companion ~= 'none' and companion ~= 'zset' then
    return nil, {FOREIGN, KEYS[2], companion}
  end
  return kind
end
