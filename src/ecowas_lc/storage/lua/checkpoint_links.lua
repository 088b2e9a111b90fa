local function u16(s, at) return string.byte(s, at) * 256 + string.byte(s, at + 1) end

-- A checkpoint's row: link (length + id of the one before it; SAME: it is the parent), parent, values, blob.
local SAME = 65535
local function row_link(row)
  local n = u16(row, 1)
  local after = n == SAME and 3 or 3 + n
  local np = u16(row, after)
  local parent = string.sub(row, after + 2, after + 1 + np)
  local prev = n == SAME and parent or string.sub(row, 3, 2 + n)
  return prev, parent, after
end

-- The link of the checkpoint `id`. Links must lead to older checkpoints: a loop would never end, and block the server.
local function links_of(id, row)
  local prev, parent, after = row_link(row)
  if prev ~= '' and not less(prev, id) then
    error('ECOWASCORRUPT A stored checkpoint follows one that is not older.', 0)
  end
  return prev, parent, after
end

local function link(prev, body)
  local np = u16(body, 1)
  if np > 0 and prev == string.sub(body, 3, 2 + np) then return '\255\255' .. body end
  return struct.pack('>I2', #prev) .. prev .. body
end
