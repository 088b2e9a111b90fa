-- Delete checkpoints and everything that only they use: n, (ns, id)*n, run*: these runs have no checkpoint left here.
-- Answers how many checkpoints are left.
local wrong, known = check_format()
if wrong then return wrong end
if not known then return 0 end
local doomed = {}
local names = 1 + 2 * tonumber(ARGV[1])
for i = 2, names, 2 do doomed[ARGV[i] .. '\0' .. ARGV[i + 1]] = true end

-- What stays, and its links.
local live_fields, live_rows, live_spaces, latest_of, relinked = {}, {}, {}, {}, {}
local marked, used_segments = {}, {}
local function mark(digest) marked[digest] = true end
for _, space in ipairs(spaces()) do
  local id = redis.call('HGET', H, 'L' .. space)
  local chain = {}
  while id and id ~= '' do
    local row = redis.call('HGET', H, 'c' .. space .. '\0' .. id)
    if not row then break end
    if not doomed[space .. '\0' .. id] then chain[#chain + 1] = { id, row } end
    id = (links_of(id, row))
  end
  for i, item in ipairs(chain) do
    local _, _, after = row_link(item[2])
    local prev = chain[i + 1] and chain[i + 1][1] or ''
    local row = link(prev, string.sub(item[2], after))
    local field = 'c' .. space .. '\0' .. item[1]
    if row ~= item[2] then
      relinked[#relinked + 1] = field
      relinked[#relinked + 1] = row
    end
    local fields, blob = row_values(item[2], after)
    each_ref(item[2], blob, mark)
    for _, value in ipairs(fields) do live_fields[value] = true end
    live_rows[field] = true
  end
  if #chain > 0 then
    live_spaces[#live_spaces + 1] = space
    latest_of[space] = chain[1][1]
  end
end
if #live_spaces == 0 then
  redis.call('UNLINK', H)
  return 0
end
for field in pairs(live_fields) do
  local value = redis.call('HGET', H, field)
  if value and string.sub(value, 1, 1) == 'l' then
    local log, pieces = log_of(field), pieces_of(value)
    local used = used_segments[log] or {}
    used_segments[log] = used
    local digests = digests_of(log, pieces)
    -- Without them a piece reaches beyond the log: it is corrupt, and may claim milliards of segments.
    for _, piece in ipairs(digests and pieces or {}) do
      for segment = math.floor(piece[1] / SEGMENT), math.floor((piece[1] + piece[2] - 1) / SEGMENT) do
        used[segment] = true
      end
    end
    digests = digests or ''
    for at = 1, #digests, 16 do mark(string.sub(digests, at, at + 15)) end
  elseif value then
    each_ref(value, 2, mark)
  end
end

local all, drop, kept = redis.call('HKEYS', H), {}, 0
for _, field in ipairs(all) do
  if string.byte(field) == 119 then -- 'w' ns '\0' id '\0' k
    local checkpoint = string.sub(field, 2, string.match(field, '()%z%d+$') - 1)
    local cut = string.find(checkpoint, '\0', 1, true)
    local newest = latest_of[string.sub(checkpoint, 1, cut - 1)]
    -- Writes may arrive before their checkpoint does; those of one that was deleted may arrive after.
    local may_come = not newest or less(newest, string.sub(checkpoint, cut + 1))
    if live_rows['c' .. checkpoint] or (may_come and not doomed[checkpoint]) then
      each_ref(redis.call('HGET', H, field), 1, mark)
    else
      drop[#drop + 1] = field
    end
  end
end
local pending = {}
for digest in pairs(marked) do pending[#pending + 1] = digest end
while #pending > 0 do
  local element = redis.call('HGET', H, 'e' .. table.remove(pending))
  if element then
    each_ref(element, 1, function(inner)
      if not marked[inner] then
        marked[inner] = true
        pending[#pending + 1] = inner
      end
    end)
  end
end

local function segment_is_used(field)
  local log, segment = string.match(field, '^g(.*)%z(%d+)$')
  local used = used_segments[log]
  if not used then return false end
  -- The log's last segment stays even where nothing uses it: later elements are appended to it.
  local count = tonumber(redis.call('HGET', H, 'n' .. log))
  segment = tonumber(segment)
  return used[segment] or (count % SEGMENT ~= 0 and segment == math.floor(count / SEGMENT))
end

for _, field in ipairs(all) do
  local kind, rest, stays = string.sub(field, 1, 1), string.sub(field, 2), true
  if kind == 'c' then
    stays = live_rows[field]
    if stays then kept = kept + 1 end
  elseif kind == 'v' then
    stays = live_fields[field]
  elseif kind == 'e' then
    stays = marked[rest]
  elseif kind == 'g' then
    stays = segment_is_used(field)
  elseif kind == 'n' then
    stays = used_segments[rest]
  elseif kind == 'L' or kind == 'M' then
    stays = latest_of[rest]
  end
  if not stays then drop[#drop + 1] = field end
end
for i = names + 1, #ARGV do drop[#drop + 1] = 'r' .. ARGV[i] end

-- Removal first: where the server is out of memory, only a script's first write is refused, and this is none of
-- those that can be.
for i = 1, #drop, CHUNK do redis.call('HDEL', H, unpack(drop, i, math.min(i + CHUNK - 1, #drop))) end
for i, live in ipairs(live_spaces) do
  redis.call('HSET', H, 'L' .. live, latest_of[live])
  if live_spaces[i + 1] then
    redis.call('HSET', H, 'M' .. live, live_spaces[i + 1])
  else
    redis.call('HDEL', H, 'M' .. live)
  end
end
redis.call('HSET', H, 'N', live_spaces[1])
for i = 1, #relinked, 2 do redis.call('HSET', H, relinked[i], relinked[i + 1]) end
return kept
