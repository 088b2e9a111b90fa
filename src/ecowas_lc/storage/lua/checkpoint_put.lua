-- Store one checkpoint: ttl, ns, id, body, fence, n, (field, kind, …)*n, m, field*m, k, (digest, element)*k, digests,
-- run, thread, now. KEYS after the thread's are indexes of threads to enter it in (on a cluster they travel beside).
-- Answers {} when stored; otherwise {fields, digests} that the thread lacks, and has written nothing.
local wrong, known = check_format()
if wrong then return wrong end
local ttl, ns, id, body, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local at = 6
local function take() at = at + 1; return ARGV[at - 1] end

local latest = redis.call('HGET', H, 'L' .. ns)
if fence ~= '' and latest and latest ~= id and latest ~= string.sub(fence, 2) then
  return redis.error_reply('ECOWASCONFLICT Another run has extended this thread since this one read it. ' ..
    'Read the thread again, or start from a checkpoint_id to fork it on purpose.')
end

local missing_fields, missing_digests, values, sent = {}, {}, {}, {}
for _ = 1, tonumber(take()) do
  local value = { field = 'v' .. take(), kind = take() }
  if value.kind == 'p' then
    value.blob = take()
  else
    local base_name, base_mark
    value.wrapper, value.mark, base_name, base_mark, value.ops, value.new = take(), take(), take(), take(), take(), take()
    if base_name ~= '' then
      -- The edits hold for the very list that the client has in mind, and for no other of that name.
      local base = redis.call('HGET', H, 'v' .. base_name)
      if base and string.sub(base, 1, 1) == 'l' and mark_of(base) == base_mark then
        value.pieces = pieces_of(base)
      else
        missing_fields[#missing_fields + 1] = string.sub(value.field, 2)
      end
    end
  end
  values[#values + 1] = value
end
for _ = 1, tonumber(take()) do
  local field = take()
  if redis.call('HEXISTS', H, 'v' .. field) == 0 then missing_fields[#missing_fields + 1] = field end
end
for _ = 1, tonumber(take()) do
  local digest = take()
  sent[#sent + 1] = 'e' .. digest
  sent[#sent + 1] = take()
end
missing_elements(take(), missing_digests)
local run, thread, now = take(), take(), take()
for i = 2, #KEYS do redis.call('ZADD', KEYS[i], now, thread) end
if #missing_fields > 0 or #missing_digests > 0 then return { missing_fields, table.concat(missing_digests) } end

if not known then redis.call('HSET', H, 'format', FORMAT) end
if run ~= '' then redis.call('HSET', H, 'r' .. run, '') end
store_elements(sent, 1, #sent)

local function append_to_log(log, digests)
  local start = tonumber(redis.call('HGET', H, 'n' .. log) or '0')
  local done, total = 0, #digests / 16
  while done < total do
    local segment = math.floor((start + done) / SEGMENT)
    local room = (segment + 1) * SEGMENT - (start + done)
    local take_now = math.min(room, total - done)
    local field = 'g' .. log .. '\0' .. segment
    local held = room < SEGMENT and redis.call('HGET', H, field) or ''
    redis.call('HSET', H, field, held .. string.sub(digests, 16 * done + 1, 16 * (done + take_now)))
    done = done + take_now
  end
  redis.call('HSET', H, 'n' .. log, string.format('%d', start + total))
  return start
end

local function add_piece(pieces, start, length)
  local last = pieces[#pieces]
  if last and last[1] + last[2] == start then
    last[2] = last[2] + length
  elseif length > 0 then
    pieces[#pieces + 1] = { start, length }
  end
end

-- Items from .. from + length - 1 of a list whose pieces begin at the places `begins`.
local function slice(pieces, begins, from, length, into)
  local low, high = 1, #pieces
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if begins[middle] <= from then low = middle else high = middle - 1 end
  end
  while length > 0 do
    local piece, skip = pieces[low], from - begins[low]
    local n = math.min(piece[2] - skip, length)
    add_piece(into, piece[1] + skip, n)
    from, length, low = from + n, length - n, low + 1
  end
end

local function edited(value, start)
  local begins, place = {}, 0
  for i, piece in ipairs(value.pieces or {}) do
    begins[i] = place
    place = place + piece[2]
  end
  local pieces, total = {}, 0
  for op = 1, #value.ops, 9 do
    local from, length = struct.unpack('>I4I4', value.ops, op + 1)
    total = total + length
    if string.byte(value.ops, op) == 0 then
      slice(value.pieces, begins, from, length, pieces)
    else
      add_piece(pieces, start + from, length)
    end
  end
  return pieces, total
end

for _, value in ipairs(values) do
  if value.kind == 'p' then
    redis.call('HSET', H, value.field, 'p' .. value.blob)
  else
    local log = log_of(value.field)
    local start = #value.new > 0 and append_to_log(log, value.new) or 0
    local pieces, total = edited(value, start)
    -- Many small edits: written out once more, so that neither size nor reading grows with their number.
    local digests = #pieces > 16 + total / 8 and digests_of(log, pieces)
    if digests then pieces = { { append_to_log(log, digests), total } } end
    local out = { 'l', value.wrapper, value.mark }
    for i, piece in ipairs(pieces) do out[i + 3] = struct.pack('>I4I4', piece[1], piece[2]) end
    redis.call('HSET', H, value.field, table.concat(out))
  end
end

local function row_at(checkpoint) return redis.call('HGET', H, 'c' .. ns .. '\0' .. checkpoint) end

local own = 'c' .. ns .. '\0' .. id
local present = redis.call('HGET', H, own)
if present then
  redis.call('HSET', H, own, link((row_link(present)), body))
elseif not latest then
  local newest = redis.call('HGET', H, 'N')
  if newest then redis.call('HSET', H, 'M' .. ns, newest) end
  redis.call('HSET', H, 'N', ns, 'L' .. ns, id, own, link('', body))
elseif less(latest, id) then
  redis.call('HSET', H, 'L' .. ns, id, own, link(latest, body))
else
  local above = latest
  local row = row_at(above)
  local prev, _, after = links_of(above, row)
  while prev ~= '' and less(id, prev) do
    above = prev
    row = row_at(above)
    prev, _, after = links_of(above, row)
  end
  redis.call('HSET', H, own, link(prev, body), 'c' .. ns .. '\0' .. above, link(id, string.sub(row, after)))
end
renew(ttl)
if KEYS[3] then redis.call('PEXPIRE', KEYS[3], 2592000000) end -- see Keys.run
return {}
