-- Remove checkpoints (`doomed`: 'ns\0id'), whatever nothing uses then, and the fields in `drop`.
-- Returns how many checkpoints are left.
local function sweep(doomed, drop)
  -- What stays, and its links.
  local live_fields, live_rows, live_spaces, latest_of, relinked = {}, {}, {}, {}, {}
  local marked, used_segments, intervals = {}, {}, {}
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
      local log = log_of(field, wrapper_of(value))
      intervals[log] = intervals[log] or {}
      for _, piece in ipairs((pieces_of(value))) do table.insert(intervals[log], { piece[1], piece[1] + piece[2] }) end
    elseif value then
      each_ref(value, 2, mark)
    end
  end
  -- Each position of a log once, however many lists use it.
  for log, found in pairs(intervals) do
    table.sort(found, function(a, b) return a[1] < b[1] end)
    local merged = {}
    for _, each in ipairs(found) do
      local last = merged[#merged]
      if last and each[1] <= last[2] then
        last[2] = math.max(last[2], each[2])
      else
        merged[#merged + 1] = each
      end
    end
    intervals[log], used_segments[log] = merged, {}
  end

  local all, kept = redis.call('HKEYS', H), 0
  local function mark_segment(field)
    local log, segment = string.match(field, '^g(.*)%z(%d+)$')
    local places = log and intervals[log]
    if not places then return end
    local first, low, high = tonumber(segment) * SEGMENT, 1, #places + 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if places[middle][2] <= first then low = middle + 1 else high = middle end
    end
    local held
    while places[low] and places[low][1] < first + SEGMENT do
      held = held or redis.call('HGET', H, field)
      used_segments[log][tonumber(segment)] = true
      local from, upto = math.max(places[low][1] - first, 0), math.min(places[low][2] - first, SEGMENT)
      for i = from, math.min(upto, math.floor(#held / 16)) - 1 do mark(string.sub(held, 16 * i + 1, 16 * i + 16)) end
      low = low + 1
    end
  end

  for _, field in ipairs(all) do
    if string.byte(field) == 103 then mark_segment(field) end -- 'g' ns '\0' channel '\0' segment
    if string.byte(field) == 119 then -- 'w' ns '\0' id '\0' k
      local checkpoint = string.sub(field, 2, string.match(field, '()%z%d+$') - 1)
      local cut = string.find(checkpoint, '\0', 1, true)
      local newest = latest_of[string.sub(checkpoint, 1, cut - 1)]
      -- Writes may arrive before their checkpoint, and after the deletion of their checkpoint.
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
    -- The log's last segment stays even if nothing uses it: later elements are appended to it.
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
    elseif kind == 'k' then
      stays = live_rows['c' .. rest]
    end
    if not stays then drop[#drop + 1] = field end
  end

  -- A removal first, of nothing: if the server is out of memory, it refuses only a script's first write, and
  -- a removal is never refused. The real removals come last, when nothing else can be refused.
  redis.call('HDEL', H, '')
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
  for i = 1, #drop, CHUNK do redis.call('HDEL', H, unpack(drop, i, math.min(i + CHUNK - 1, #drop))) end
  return kept
end
