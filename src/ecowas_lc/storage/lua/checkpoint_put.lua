-- Store one checkpoint: ttl, ns, id, body, fence, n, (field, kind, …)*n, m, field*m, k, (digest, element)*k, digests,
-- thread, now. KEYS after the thread's are indexes of threads to enter it in (on a cluster they travel beside).
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
    value.wrapper, value.base, value.ops, value.new = take(), take(), take(), take()
    if value.base ~= '' then
      local base = redis.call('HGET', H, 'v' .. value.base)
      if base and string.sub(base, 1, 1) == 'l' then
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
for i = 2, #KEYS do redis.call('ZADD', KEYS[i], ARGV[at + 1], ARGV[at]) end
if #missing_fields > 0 or #missing_digests > 0 then return { missing_fields, table.concat(missing_digests) } end

if not known then redis.call('HSET', H, 'format', FORMAT) end
for i = 1, #sent, CHUNK do redis.call('HSET', H, unpack(sent, i, math.min(i + CHUNK - 1, #sent))) end

local function append_to_log(log, digests)
  local count = tonumber(redis.call('HGET', H, 'n' .. log) or '0')
  local start, done, total = count, 0, #digests / 16
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

local function slice(pieces, start, length, into)
  for _, piece in ipairs(pieces) do
    if length <= 0 then return end
    if start < piece[2] then
      local n = math.min(piece[2] - start, length)
      add_piece(into, piece[1] + start, n)
      start, length = 0, length - n
    else
      start = start - piece[2]
    end
  end
end

local function pack_pieces(wrapper, pieces)
  local out = { 'l', wrapper }
  for i, piece in ipairs(pieces) do out[i + 2] = struct.pack('>I4I4', piece[1], piece[2]) end
  return table.concat(out)
end

for _, value in ipairs(values) do
  if value.kind == 'p' then
    redis.call('HSET', H, value.field, 'p' .. value.blob)
  else
    local log, pieces, total = log_of(value.field), {}, 0
    local start = #value.new > 0 and append_to_log(log, value.new) or 0
    for op = 1, #value.ops, 9 do
      local from, length = struct.unpack('>I4I4', value.ops, op + 1)
      total = total + length
      if string.byte(value.ops, op) == 0 then
        slice(value.pieces, from, length, pieces)
      else
        add_piece(pieces, start + from, length)
      end
    end
    local row = pack_pieces(value.wrapper, pieces)
    if #pieces > 16 + total / 8 then
      -- Many small edits: written out once more, so that neither size nor reading grows with their number.
      local digests = list_digests(log, row)
      row = pack_pieces(value.wrapper, { { append_to_log(log, digests), total } })
    end
    redis.call('HSET', H, value.field, row)
  end
end

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
  local row = redis.call('HGET', H, 'c' .. ns .. '\0' .. above)
  local prev, _, after = row_link(row)
  while prev ~= '' and less(id, prev) do
    above = prev
    row = redis.call('HGET', H, 'c' .. ns .. '\0' .. above)
    prev, _, after = row_link(row)
  end
  redis.call('HSET', H, own, link(prev, body), 'c' .. ns .. '\0' .. above, link(id, string.sub(row, after)))
end
expire(ttl)
if KEYS[3] and ttl ~= '' then redis.call('PEXPIRE', KEYS[3], ttl) end
return {}
