-- Read checkpoints, newest first: ttl, ns, all, from, id, along, limit, writes, values, held, (field, mark)*k.
--   all: '1' every namespace;  from: 'latest', 'at', 'before' (id);  along: 'prev' or 'parent'.
-- Returns {{ns, id, row, {value…}, {writes…}, 1 for the namespace's latest or 0}…, digests, {element…}, 1 if older
-- ones are left}. A page ends at the limit, or once it is large. A list value is 'l' + wrapper + mark +
-- digests. The client has the lists of these fields and marks, and their elements: if one of them is read, the
-- answer is 'k' + wrapper + mark; of a list with the same log, only the elements that the client lacks.
-- `held`: digests of elements that refer to no others and that the client has; they are not returned.
-- Values that the answer already contains are named by their position: a value is 's' + row + position, a list whose
-- digests another begins with 'b' + wrapper + mark + row + position + how many bytes (each counted from 0, in 4 bytes).
local wrong = check_format()
if wrong then return wrong end
local ttl, only, from, start, along = ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]
local limit, with_writes, with_values = tonumber(ARGV[7]), ARGV[8] == '1', ARGV[9] == '1'
local out, wanted, order, count = {}, {}, {}, 0
local PAGE_ITEMS, PAGE_BYTES, bytes = 524288, 33554432, 0
local sub, byte = string.sub, string.byte

local function want(digest)
  if not wanted[digest] then
    wanted[digest] = true
    count = count + 1
    order[count] = digest
  end
end

local known, bases = {}, {}
for i = 1, #ARGV[10], 16 do wanted[sub(ARGV[10], i, i + 15)] = true end
for i = 11, #ARGV, 2 do
  known[ARGV[i + 1]] = true
  local base = { field = 'v' .. ARGV[i], mark = ARGV[i + 1] }
  bases[log_of(base.field, 'b')], bases[log_of(base.field, 'B')] = base, base
end

-- The digests of a list with this log whose elements the client has, as one string.
local held_lists = {}
local function held_by_client(log)
  local held = held_lists[log]
  if held then return held end
  local base = bases[log]
  local value = base and redis.call('HGET', H, base.field)
  local is_base = value and sub(value, 1, 1) == 'l' and mark_of(value) == base.mark
  is_base = is_base and log_of(base.field, wrapper_of(value)) == log
  local pieces, total = pieces_of(is_base and value or '')
  spend(total)
  held = digests_of(log, pieces) or ''
  held_lists[log] = held
  return held
end

-- `want` for a list's digests, without a call for each of perhaps thousands.
local function want_all(digests, client_has)
  local held, first = {}, 1
  if client_has ~= '' and sub(digests, 1, #client_has) == client_has then
    first = #client_has + 1 -- the usual case: the list has only grown
  else
    for at = 1, #client_has, 16 do held[sub(client_has, at, at + 15)] = true end
  end
  for at = first, #digests, 16 do
    local digest = sub(digests, at, at + 15)
    if not wanted[digest] and not held[digest] then
      wanted[digest] = true
      count = count + 1
      order[count] = digest
    end
  end
end

local latest = {}
local function latest_of(ns)
  if latest[ns] == nil then latest[ns] = redis.call('HGET', H, 'L' .. ns) end
  return latest[ns]
end

local function fetch(ns, id) return redis.call('HGET', H, 'c' .. ns .. '\0' .. id) end

-- The position of each value in the answer, and for each log the list that others may start with.
local sent, longest = {}, {}
local named
local function add(ns, id, row)
  local _, _, after = row_link(row)
  local fields, blob = row_values(row, after)
  bytes = bytes + #row
  local values, writes, reads = {}, {}, with_values and fields or {}
  local pending = 'w' .. ns .. '\0' .. id .. '\0'
  if with_writes then reads[#reads + 1] = pending .. 0 end
  local found = {}
  for from_here = 1, #reads, CHUNK do
    local some = redis.call('HMGET', H, unpack(reads, from_here, math.min(from_here + CHUNK - 1, #reads)))
    for i = 1, #some do found[from_here + i - 1] = some[i] end
  end
  local batch = with_writes and table.remove(found)
  -- Rows of one id can't be separated: if they named the same value, each would add it to the answer.
  for i = 1, #found do
    if named[fields[i]] then corrupt('Several stored checkpoints of one id name the same value.') end
    named[fields[i]] = true
  end
  each_ref(row, blob, want)
  if with_values then
    local pieces = {}
    for i, value in ipairs(found) do
      if value and sub(value, 1, 1) == 'l' and not known[mark_of(value)] then
        local some, total = pieces_of(value)
        pieces[i] = some
        spend(total)
      end
    end
    for i, value in ipairs(found) do
      local field = fields[i]
      local kind = value and sub(value, 1, 1)
      if sent[field] then
        value = nil
      elseif kind == 'l' and known[mark_of(value)] then
        value = 'k' .. sub(value, 2, PIECES - 1)
      elseif kind == 'l' then
        local log = log_of(field, wrapper_of(value))
        local digests = digests_of(log, pieces[i])
        value = digests and sub(value, 1, PIECES - 1) .. digests or false
        local base = longest[log]
        if digests and base and sub(base.digests, 1, #digests) == digests then
          value = 'b' .. sub(value, 2, PIECES - 1) .. struct.pack('>I4I4I4', base.row, base.at, #digests)
        elseif digests then
          want_all(digests, held_by_client(log))
          longest[log] = { digests = digests, row = #out, at = i - 1 }
        end
      elseif kind == 'p' then
        each_ref(value, 2, want)
      else
        value = nil -- an unknown kind, which must not be mistaken for one of the kinds of the answer
      end
      if not sent[field] then
        values[i] = value or ''
        sent[field] = { name = 's' .. struct.pack('>I4I4', #out, i - 1), bytes = #values[i] }
      else
        values[i] = sent[field].name
      end
      bytes = bytes + sent[field].bytes
    end
  end
  if with_writes then
    local k = 0
    while batch do
      each_ref(batch, 1, want)
      k = k + 1
      writes[k] = batch
      bytes = bytes + #batch
      batch = redis.call('HGET', H, pending .. k)
    end
  end
  out[#out + 1] = { ns, id, row, values, writes, latest_of(ns) == id and 1 or 0 }
end

local function first(ns)
  if from == 'at' then return start end
  local id = latest_of(ns)
  if from == 'latest' or not id then return id end
  local row = fetch(ns, start)
  if row then return (links_of(start, row)) end
  while id and id ~= '' and not less(id, start) do
    row = fetch(ns, id)
    id = row and (links_of(id, row)) or ''
  end
  return id
end

-- The next checkpoint of each namespace, the newest of them last.
local heads = {}
local function older(a, b) return less(a.id, b.id) end
local function push(ns, id)
  local row = id and id ~= '' and fetch(ns, id)
  if not row then return end
  local head, low, high = { ns = ns, id = id, row = row }, 1, #heads + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if older(heads[middle], head) then low = middle + 1 else high = middle end
  end
  table.insert(heads, low, head)
end

if ARGV[3] == '1' then
  for _, ns in ipairs(spaces()) do push(ns, first(ns)) end
else
  push(only, first(only))
end

local last
while #heads > 0 do
  local head = heads[#heads]
  local is_full = #out >= limit or bytes > PAGE_BYTES or items_of_call > PAGE_ITEMS
  -- The next page begins before the last id of this one: equal ids of several namespaces stay together.
  if is_full and #out > 0 and (head.id ~= last or along == 'parent') then break end
  table.remove(heads)
  if head.id ~= last then named = {} end
  last = head.id
  add(head.ns, head.id, head.row)
  local prev, parent = links_of(head.id, head.row)
  if along == 'prev' then push(head.ns, prev) elseif along == 'parent' then push(head.ns, parent) end
end

-- Elements refer to elements: those found in one round are fetched in the next.
local elements, done = {}, 0
while done < count do
  local stop = math.min(done + CHUNK, count)
  local fields = {}
  for i = done + 1, stop do fields[i - done] = 'e' .. order[i] end
  local found = redis.call('HMGET', H, unpack(fields))
  for i = 1, stop - done do
    local element = found[i]
    if not element then
      elements[done + i] = ''
    else
      elements[done + i] = element
      local high, low = byte(element, 1, 2)
      if high ~= 0 or low ~= 0 then
        if high == 0 and low == 1 then
          local digest = sub(element, 3, 18)
          if not wanted[digest] then
            wanted[digest] = true
            count = count + 1
            order[count] = digest
          end
        else
          each_ref(element, 1, want)
        end
      end
    end
  end
  done = stop
end
-- A thread that was stored without an expiry keeps none, pinned or not: reading renews an expiry but never sets one.
if #out > 0 and ttl ~= '' and redis.call('PTTL', H) >= 0 then expire(ttl) end
return { out, table.concat(order), elements, #heads > 0 and 1 or 0 }
