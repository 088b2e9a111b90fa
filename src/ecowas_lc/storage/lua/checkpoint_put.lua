-- Store one checkpoint: ttl, ns, id, body, fence, parent that must be there or '', n, (field, kind, …)*n, m, field*m, k,
-- (digest, element)*k, digests, run, thread, now, entry or '', how many checkpoints of the namespace to keep (0: all),
-- '1' if the thread has delta channels, note for keeping or ''. KEYS after the thread's are indexes of threads to enter
-- it in (on a cluster, separate commands do that).
-- Returns {} when stored; otherwise the {fields, digests} that the thread lacks; then nothing was written.
-- One command reads everything that is needed, and one writes everything.
local ttl, ns, id, body, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local own = 'c' .. ns .. '\0' .. id
local parent = 'c' .. ns .. '\0' .. ARGV[6]
local lists, words, reads, at = {}, {}, { 'format', 'N', 'pinned', 'L' .. ns, own }, 8
if ARGV[6] ~= '' then reads[6] = parent end
for _ = 1, tonumber(ARGV[7]) do
  local field = 'v' .. ARGV[at]
  if ARGV[at + 1] == 'p' then
    words[#words + 1], words[#words + 2] = field, 'p' .. ARGV[at + 2]
    at = at + 3
  else
    local log, base = log_of(field, ARGV[at + 2]), 'v' .. ARGV[at + 4]
    lists[#lists + 1] = { field = field, log = log, wrapper = ARGV[at + 2], mark = ARGV[at + 3], base = base,
      base_mark = ARGV[at + 5], edits = ARGV[at + 6], new = ARGV[at + 7] }
    reads[#reads + 1], reads[#reads + 2] = base, 'n' .. log
    at = at + 8
  end
end
local have = {}
for first = 1, #reads, CHUNK do
  local found = redis.call('HMGET', H, unpack(reads, first, math.min(first + CHUNK - 1, #reads)))
  for i = 1, #found do have[reads[first + i - 1]] = found[i] end
end
local wrong = format_error(have.format)
if wrong then return wrong end
local latest = have['L' .. ns]
if fence ~= '' and latest and latest ~= id and latest ~= string.sub(fence, 2) then
  return redis.error_reply('ECOWASCONFLICT Another run has extended this thread since this one read it. ' ..
    'Read the thread again, or start from a checkpoint_id to fork it on purpose.')
end

-- A delta channel's value is its ancestors' and the writes since: without them it would be lost without an error.
if ARGV[6] ~= '' and not have[parent] then
  return redis.error_reply('ECOWASGONE The thread has expired, or was deleted, since this run read it, and with it ' ..
    'what its delta channels are rebuilt from. Nothing was written. Run it again from its beginning, or raise ttl.')
end

local missing_fields, missing_digests = {}, {}
for _, list in ipairs(lists) do
  if list.base ~= 'v' then
    -- The edits apply only to the list that the client knows, not to another one of that name.
    local base = have[list.base]
    local is_list = base and string.sub(base, 1, 1) == 'l' and mark_of(base) == list.base_mark
    if is_list and log_of(list.base, wrapper_of(base)) == list.log then
      list.pieces = (pieces_of(base))
    else
      missing_fields[#missing_fields + 1] = string.sub(list.field, 2)
    end
  end
end
local required = tonumber(ARGV[at])
for i = at + 1, at + required do
  if redis.call('HEXISTS', H, 'v' .. ARGV[i]) == 0 then missing_fields[#missing_fields + 1] = ARGV[i] end
end
at = at + required + 1
local sent = tonumber(ARGV[at])
for i = at + 1, at + 2 * sent, 2 do
  words[#words + 1], words[#words + 2] = 'e' .. ARGV[i], ARGV[i + 1]
end
at = at + 2 * sent + 1
local digests, run, thread, now, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
local keep, has_delta, note = tonumber(ARGV[at + 5]), ARGV[at + 6] == '1', ARGV[at + 7]
for i = 1, #digests, 16 do
  local digest = string.sub(digests, i, i + 15)
  if redis.call('HEXISTS', H, 'e' .. digest) == 0 then missing_digests[#missing_digests + 1] = digest end
end
for i = 2, #KEYS do redis.call('ZADD', KEYS[i], now, thread) end
if #missing_fields > 0 or #missing_digests > 0 then return { missing_fields, table.concat(missing_digests) } end

if #lists > 0 then
  local function set(field, value)
    have[field] = value
    words[#words + 1], words[#words + 2] = field, value
  end

  local function append_to_log(log, digests)
    local start = tonumber(have['n' .. log] or '0')
    local done, total = 0, #digests / 16
    while done < total do
      local segment = math.floor((start + done) / SEGMENT)
      local room = (segment + 1) * SEGMENT - (start + done)
      local take_now = math.min(room, total - done)
      local field = 'g' .. log .. '\0' .. segment
      local held = room < SEGMENT and (have[field] or redis.call('HGET', H, field)) or ''
      set(field, held .. string.sub(digests, 16 * done + 1, 16 * (done + take_now)))
      done = done + take_now
    end
    set('n' .. log, string.format('%d', start + total))
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

  local function edited(list, start)
    local begins, place = {}, 0
    for i, piece in ipairs(list.pieces or {}) do
      begins[i] = place
      place = place + piece[2]
    end
    local pieces, total = {}, 0
    for edit = 1, #list.edits, 9 do
      local from, length = struct.unpack('>I4I4', list.edits, edit + 1)
      total = total + length
      if string.byte(list.edits, edit) == 0 then
        slice(list.pieces, begins, from, length, pieces)
      else
        add_piece(pieces, start + from, length)
      end
    end
    return pieces, total
  end

  for _, list in ipairs(lists) do
    local start = #list.new > 0 and append_to_log(list.log, list.new) or 0
    local pieces, total = edited(list, start)
    -- After many small edits, the list is rewritten, so that neither its size nor reading grows with their number.
    local whole
    if #pieces > 16 + total / 8 then
      spend(total)
      whole = digests_of(list.log, pieces, have)
    end
    if whole then pieces = { { append_to_log(list.log, whole), total } } end
    local out = { 'l', list.wrapper, list.mark }
    for i, piece in ipairs(pieces) do out[i + 3] = struct.pack('>I4I4', piece[1], piece[2]) end
    set(list.field, table.concat(out))
  end
end

local shares = false
for _, list in ipairs(lists) do shares = shares or list.wrapper < 'a' end
if not have.format or (shares and have.format == FORMAT) then
  words[#words + 1], words[#words + 2] = 'format', shares and SHARED_LOGS or FORMAT
end
if run ~= '' then words[#words + 1], words[#words + 2] = 'r' .. run, '' end
local is_latest = not (latest and less(id, latest))
if entry ~= '' and is_latest then words[#words + 1], words[#words + 2] = 'T', entry end
if note ~= '' then words[#words + 1], words[#words + 2] = 'k' .. ns .. '\0' .. id, note end
local row = have[own]
if row then
  row = link((row_link(row)), body)
elseif not latest then
  if have.N then words[#words + 1], words[#words + 2] = 'M' .. ns, have.N end
  words[#words + 1], words[#words + 2] = 'N', ns
  words[#words + 1], words[#words + 2] = 'L' .. ns, id
  row = link('', body)
elseif less(latest, id) then
  words[#words + 1], words[#words + 2] = 'L' .. ns, id
  row = link(latest, body)
else
  local above = latest
  local above_row = redis.call('HGET', H, 'c' .. ns .. '\0' .. above)
  local prev, _, after = links_of(above, above_row)
  while prev ~= '' and less(id, prev) do
    above = prev
    above_row = redis.call('HGET', H, 'c' .. ns .. '\0' .. above)
    prev, _, after = links_of(above, above_row)
  end
  words[#words + 1], words[#words + 2] = 'c' .. ns .. '\0' .. above, link(id, string.sub(above_row, after))
  row = link(prev, body)
end
words[#words + 1], words[#words + 2] = own, row
if #KEYS == 1 then check_memory(have.format) end -- otherwise writing the indexes has checked it
if keep > 0 then redis.call('HDEL', H, '') end -- refused before anything is written
if KEYS[3] then redis.call('PEXPIRE', KEYS[3], 2592000000) end -- see Keys.run
renew(ttl, true, have.pinned, not have.N)
for first = 1, #words, CHUNK do
  redis.call('HSET', H, unpack(words, first, math.min(first + CHUNK - 1, #words)))
end
if not have.format then renew(ttl, true, have.pinned, true) end
-- An expired thread leaves its name in the index. Each new thread looks at two names, chosen by the clock, and removes
-- those of expired threads, so that the index stays in proportion to the living ones even if nobody lists them.
local function tidy_index()
  local count = redis.call('ZCARD', KEYS[2])
  for draw = 1, 2 do
    local place = math.floor(now * (1000003 + 7919 * draw)) % count
    local name = redis.call('ZRANGE', KEYS[2], place, place)[1]
    local id = string.gsub(name, '[%%:{}%c]', function(byte) return string.format('%%%02X', string.byte(byte)) end)
    local key = string.sub(H, 1, (string.find(H, '{', 1, true))) .. id .. '}'
    if redis.call('EXISTS', key) == 0 then redis.call('ZREM', KEYS[2], name) end
    count = redis.call('ZCARD', KEYS[2])
  end
end
if not have.format and ttl ~= '' and KEYS[2] then pcall(tidy_index) end
-- The checkpoint is stored, so a fault in older ones must not be reported to its writer as a failure.
if keep > 0 and is_latest then pcall(keep_newest, ns, keep, has_delta) end
return {}
