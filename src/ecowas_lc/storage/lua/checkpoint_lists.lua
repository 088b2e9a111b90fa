-- A list value: 'l', wrapper, mark (16 bytes, the client's seal on the whole list), pieces of the list log.
local PIECES = 19
local MOST_ITEMS = 1048576 -- clients store longer lists, and further lists of one checkpoint, as plain values
local MOST_IN_A_CALL = 3 * MOST_ITEMS
local function mark_of(value) return string.sub(value, 3, PIECES - 1) end

-- A few bytes of pieces can claim more items than the server has memory for, and a row can name many such lists:
-- their claims are counted before memory is used for them.
local items_of_call = 0
local function spend(items)
  items_of_call = items_of_call + items
  if items_of_call > MOST_IN_A_CALL then
    error('ECOWASCORRUPT The stored lists of a checkpoint claim more items than any has.', 0)
  end
end

-- The pieces of a list value, and its number of items.
local function pieces_of(value)
  local pieces, total = {}, 0
  for at = PIECES, #value, 8 do
    local start, length = struct.unpack('>I4I4', value, at)
    pieces[#pieces + 1] = { start, length }
    total = total + math.max(length, 1)
    if total > MOST_ITEMS then error('ECOWASCORRUPT A stored list claims more items than any has.', 0) end
  end
  return pieces, total
end

-- The digests that pieces of a list log name, as one string; nil if the log lacks some.
-- `written`: fields that are about to be written.
local function digests_of(log, pieces, written)
  local out = {}
  for _, piece in ipairs(pieces) do
    local start, stop = piece[1], piece[1] + piece[2]
    while start < stop do
      local segment = math.floor(start / SEGMENT)
      local upto = math.min(stop, (segment + 1) * SEGMENT)
      local field = 'g' .. log .. '\0' .. segment
      local held = written and written[field] or redis.call('HGET', H, field)
      if not held or #held < 16 * (upto - segment * SEGMENT) then return nil end
      out[#out + 1] = string.sub(held, 16 * (start - segment * SEGMENT) + 1, 16 * (upto - segment * SEGMENT))
      start = upto
    end
  end
  return table.concat(out)
end

-- 'ns\0channel' of 'vns\0channel\0version', or with a wrapper in capitals '\0channel'.
local function log_of(field, wrapper)
  local first = string.find(field, '\0', 2, true)
  local second = string.find(field, '\0', first + 1, true)
  return string.sub(field, wrapper < 'a' and first or 2, second - 1)
end
local function wrapper_of(value) return string.sub(value, 2, 2) end
