-- What a row of a checkpoint refers to, and where the rows of all namespaces begin.
-- The names of the value fields of a row, and where its blob begins.
local function row_values(row, after)
  local at = after + 2 + u16(row, after)
  local count = u16(row, at)
  at = at + 2
  local fields = {}
  for i = 1, count do
    local n = u16(row, at)
    fields[i] = 'v' .. string.sub(row, at + 2, at + 1 + n)
    at = at + 2 + n
  end
  return fields, at
end

local function each_ref(blob, at, visit)
  local count = u16(blob, at)
  for i = 0, count - 1 do
    visit(string.sub(blob, at + 2 + 16 * i, at + 17 + 16 * i))
  end
end

-- Every namespace, newest first.
local function spaces()
  local out, met = {}, {}
  local ns = redis.call('HGET', H, 'N')
  while ns do
    if met[ns] then error('ECOWASCORRUPT The stored namespaces lead in a circle.', 0) end
    met[ns] = true
    out[#out + 1] = ns
    ns = redis.call('HGET', H, 'M' .. ns)
  end
  return out
end
