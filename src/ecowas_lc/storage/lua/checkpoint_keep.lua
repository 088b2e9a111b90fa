-- Keep a namespace's newest checkpoints, and what their delta channels are rebuilt from: see RedisSaver(keep_last=…).
-- A note of a checkpoint ('k' ns \0 id) is length (2) and id of its run, then length (2) and name of each delta channel
-- that has no value there. One without a note was written by a saver that keeps all: with `assume_delta` it may need
-- its ancestors for any channel.
local function note_of(raw)
  local n = u16(raw, 1)
  local lacking, at = {}, 3 + n
  while at < #raw do
    local size = u16(raw, at)
    lacking[string.sub(raw, at + 2, at + 1 + size)] = true
    at = at + 2 + size
  end
  return { run = string.sub(raw, 3, 2 + n), lacking = lacking }
end

local function keep_newest(ns, most, assume_delta)
  local chain, by_id = {}, {}
  local id = redis.call('HGET', H, 'L' .. ns)
  while id and id ~= '' do
    local row = redis.call('HGET', H, 'c' .. ns .. '\0' .. id)
    if not row then break end
    local prev, parent, after = links_of(id, row)
    local raw = redis.call('HGET', H, 'k' .. ns .. '\0' .. id)
    local item = { id = id, row = row, parent = parent, after = after, note = raw and note_of(raw) }
    chain[#chain + 1], by_id[id] = item, item
    id = prev
  end
  if #chain <= most then return end

  for i = 1, most do
    local item = chain[i]
    item.stays = true
    -- The channels whose ancestors are needed; nil: all.
    local wanted = {}
    if item.note then wanted = item.note.lacking elseif assume_delta then wanted = nil end
    while item and (wanted == nil or next(wanted)) do
      item = by_id[item.parent]
      if item then
        item.stays = true
        if item.note and wanted == nil then
          wanted = item.note.lacking
        elseif item.note then
          local left = {}
          for channel in pairs(wanted) do left[channel] = item.note.lacking[channel] end
          wanted = left
        elseif wanted then
          local left = {}
          for channel in pairs(wanted) do left[channel] = true end
          for _, field in ipairs((row_values(item.row, item.after))) do
            left[string.match(field, '^v[^%z]*%z([^%z]*)%z') or ''] = nil
          end
          wanted = left
        end
      end
    end
  end

  local live, runs, knows_runs, newer = {}, {}, true, nil
  local drop, words = {}, {}
  for _, item in ipairs(chain) do
    if item.stays then
      for _, field in ipairs((row_values(item.row, item.after))) do live[field] = true end
      if item.note then runs[item.note.run] = true else knows_runs = false end
      if newer then newer.prev = item.id end
      newer = item
    end
  end
  local some_went = false
  for _, item in ipairs(chain) do
    local own = ns .. '\0' .. item.id
    if item.stays then
      local row = link(item.prev or '', string.sub(item.row, item.after))
      if row ~= item.row then words[#words + 1], words[#words + 2] = 'c' .. own, row end
    else
      some_went = true
      drop[#drop + 1], drop[#drop + 2] = 'c' .. own, 'k' .. own
      for _, field in ipairs((row_values(item.row, item.after))) do
        if not live[field] then drop[#drop + 1] = field end
      end
      local k = 0
      while redis.call('HEXISTS', H, 'w' .. own .. '\0' .. k) == 1 do
        drop[#drop + 1] = 'w' .. own .. '\0' .. k
        k = k + 1
      end
      local is_only = redis.call('HEXISTS', H, 'M' .. ns) == 0 and redis.call('HGET', H, 'N') == ns
      if item.note and knows_runs and is_only and not runs[item.note.run] then
        drop[#drop + 1] = 'r' .. item.note.run
      end
    end
  end
  if not some_went then return end
  for i = 1, #words, 2 do redis.call('HSET', H, words[i], words[i + 1]) end
  for i = 1, #drop, CHUNK do redis.call('HDEL', H, unpack(drop, i, math.min(i + CHUNK - 1, #drop))) end
  -- Unused elements are searched for once the thread has doubled.
  if redis.call('HLEN', H) > 2 * tonumber(redis.call('HGET', H, 'S') or '0') + 64 then
    sweep({}, {})
    redis.call('HSET', H, 'S', redis.call('HLEN', H))
  end
end
