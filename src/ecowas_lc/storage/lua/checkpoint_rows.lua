-- What a row of a checkpoint refers to, and where the rows of all namespaces begin.
-- A few bytes must not claim to be more than they are: anyone may have written the thread, or a backup of it.
local function corrupt(why) error('ECOWASCORRUPT ' .. why, 0) end

-- The names of the value fields of a row, and where its blob begins.
local function row_values(row, after)
  local at = after + 2 + u16(row, after)
  local count = u16(row, at)
  at = at + 2
  local fields, met = {}, {}
  for i = 1, count do
    local n = u16(row, at)
    local field = 'v' .. string.sub(row, at + 2, at + 1 + n)
    if met[field] then corrupt('A stored checkpoint names a value twice.') end
    met[field] = true
    fields[i] = field
    at = at + 2 + n
  end
  if at > #row then corrupt('A stored checkpoint is truncated.') end
  return fields, at
end

local function each_ref(blob, at, visit)
  local count = u16(blob, at)
  if at + 1 + 16 * count > #blob then corrupt('A stored value is truncated.') end
  for i = 0, count - 1 do
    visit(string.sub(blob, at + 2 + 16 * i, at + 17 + 16 * i))
  end
end

-- Every namespace, newest first.
local function spaces()
  local out, met = {}, {}
  local ns = redis.call('HGET', H, 'N')
  while ns do
    if met[ns] then corrupt('The stored namespaces lead in a circle.') end
    met[ns] = true
    out[#out + 1] = ns
    ns = redis.call('HGET', H, 'M' .. ns)
  end
  return out
end
