-- Delete checkpoints and everything that only they use: n, (ns, id)*n. Answers how many checkpoints are left.
local wrong, known = check_format()
if wrong then return wrong end
if not known then return 0 end
local doomed, spaces = {}, {}
for i = 0, tonumber(ARGV[1]) - 1 do
  local ns, id = ARGV[2 + 2 * i], ARGV[3 + 2 * i]
  doomed[ns .. '\0' .. id] = true
end

-- What stays is linked anew; what it refers to is marked.
local kept, marked, drop, logs = 0, {}, {}, {}
local function mark(digest) marked[digest] = true end
local function mark_list(field, value)
  local log = log_of(field)
  logs[log] = logs[log] or {}
  for _, piece in ipairs(pieces_of(value)) do
    for segment = math.floor(piece[1] / SEGMENT), math.floor((piece[1] + piece[2] - 1) / SEGMENT) do
      logs[log][segment] = true
    end
  end
  local digests = list_digests(log, value) or ''
  for at = 1, #digests, 16 do mark(string.sub(digests, at, at + 15)) end
end

local live_fields, live_rows, live_spaces = {}, {}, {}
local ns = redis.call('HGET', H, 'N')
while ns do
  spaces[#spaces + 1] = ns
  ns = redis.call('HGET', H, 'M' .. ns)
end
for _, space in ipairs(spaces) do
  local id = redis.call('HGET', H, 'L' .. space)
  local chain = {}
  while id and id ~= '' do
    local row = redis.call('HGET', H, 'c' .. space .. '\0' .. id)
    if not row then break end
    if not doomed[space .. '\0' .. id] then chain[#chain + 1] = { id, row } end
    id = (row_link(row))
  end
  for i, item in ipairs(chain) do
    local _, _, after = row_link(item[2])
    local prev = chain[i + 1] and chain[i + 1][1] or ''
    local relinked = link(prev, string.sub(item[2], after))
    if relinked ~= item[2] then redis.call('HSET', H, 'c' .. space .. '\0' .. item[1], relinked) end
    local fields, blob = row_values(item[2], after)
    each_ref(item[2], blob, mark)
    for _, field in ipairs(fields) do live_fields[field] = true end
    live_rows[space .. '\0' .. item[1]] = true
  end
  kept = kept + #chain
  if #chain > 0 then
    live_spaces[#live_spaces + 1] = { space, chain[1][1] }
  end
end
if kept == 0 then
  redis.call('UNLINK', H)
  return 0
end
for field in pairs(live_fields) do
  local value = redis.call('HGET', H, field)
  if value and string.sub(value, 1, 1) == 'l' then mark_list(field, value) elseif value then each_ref(value, 2, mark) end
end

local all = redis.call('HKEYS', H)
local function row_of_writes(field)
  -- 'w' ns '\0' id '\0' k: cut the last part off
  local k = string.match(field, '()%z%d+$')
  return string.sub(field, 2, k - 1)
end
for _, field in ipairs(all) do
  local kind = string.sub(field, 1, 1)
  if kind == 'w' then
    -- Writes of a checkpoint that is yet to come (they may arrive first) stay.
    if doomed[row_of_writes(field)] then
      drop[#drop + 1] = field
    else
      each_ref(redis.call('HGET', H, field), 1, mark)
    end
  end
end
local pending = {}
for digest in pairs(marked) do pending[#pending + 1] = digest end
while #pending > 0 do
  local digest = table.remove(pending)
  local element = redis.call('HGET', H, 'e' .. digest)
  if element then
    each_ref(element, 1, function(inner)
      if not marked[inner] then
        marked[inner] = true
        pending[#pending + 1] = inner
      end
    end)
  end
end
for _, field in ipairs(all) do
  local kind, rest = string.sub(field, 1, 1), string.sub(field, 2)
  if kind == 'c' and not live_rows[rest] then
    drop[#drop + 1] = field
  elseif kind == 'v' and not live_fields[field] then
    drop[#drop + 1] = field
  elseif kind == 'e' and not marked[rest] then
    drop[#drop + 1] = field
  elseif kind == 'g' then
    local cut = string.match(rest, '()%z%d+$')
    local used = logs[string.sub(rest, 1, cut - 1)]
    if not (used and used[tonumber(string.sub(rest, cut + 1))]) then drop[#drop + 1] = field end
  elseif kind == 'L' or kind == 'M' then
    drop[#drop + 1] = field
  end
end
-- The log's last segment stays even where nothing uses it: later elements are appended to it.
local keep_segment = {}
for _, field in ipairs(all) do
  if string.sub(field, 1, 1) == 'n' then
    local count = tonumber(redis.call('HGET', H, field))
    if count % SEGMENT ~= 0 then
      keep_segment['g' .. string.sub(field, 2) .. '\0' .. math.floor(count / SEGMENT)] = true
    end
  end
end
local dropping = {}
for _, field in ipairs(drop) do
  if not keep_segment[field] then dropping[#dropping + 1] = field end
end
for i = 1, #dropping, CHUNK do
  redis.call('HDEL', H, unpack(dropping, i, math.min(i + CHUNK - 1, #dropping)))
end
for i, space in ipairs(live_spaces) do
  redis.call('HSET', H, 'L' .. space[1], space[2])
  if live_spaces[i + 1] then redis.call('HSET', H, 'M' .. space[1], live_spaces[i + 1][1]) end
end
redis.call('HSET', H, 'N', live_spaces[1][1])
return kept
