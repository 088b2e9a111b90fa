-- Lua compares strings by the server's locale; ids are ordered by their bytes.
local function less(a, b)
  if a == b then return false end
  local n, i = math.min(#a, #b), 1
  while i + 7 <= n and string.sub(a, i, i + 7) == string.sub(b, i, i + 7) do i = i + 8 end
  while i <= n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
    i = i + 1
  end
  return #a < #b
end
