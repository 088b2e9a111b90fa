-- Ids under a prefix, those changed last first: prefix, first and last id as ZRANGE BYLEX has them, how many, then where
-- to continue: the version and the id that were returned last, or ''. Answers id, version, id, version, …
local prefix, first, last, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local after_version, after_id = tonumber(ARGV[5]), ARGV[6]
local CHUNK = 1000
local wrong = format_error(redis.call('HGET', HEAD, 'format'))
if wrong then return wrong end
local count = redis.call('ZLEXCOUNT', IDS, first, last)
if count == 0 then return {} end
local total = redis.call('ZCARD', LOG)

-- If few of many match, they are sorted here. If many match, the log is read from its end.
if count <= 5000 and count * 4 < total then
  local ids = redis.call('ZRANGE', IDS, first, last, 'BYLEX')
  local found = {}
  for from = 1, #ids, CHUNK do
    local upto = math.min(from + CHUNK - 1, #ids)
    local versions = redis.call('ZMSCORE', LOG, unpack(ids, from, upto))
    for i = from, upto do
      local version = versions[i - from + 1]
      if version then
        local number = tonumber(version)
        if not after_version or number < after_version or (number == after_version and less(ids[i], after_id)) then
          found[#found + 1] = { ids[i], version, number }
        end
      end
    end
  end
  table.sort(found, function(a, b)
    if a[3] ~= b[3] then return a[3] > b[3] end
    return less(b[1], a[1])
  end)
  local out = {}
  for i = 1, math.min(most, #found) do
    out[2 * i - 1], out[2 * i] = found[i][1], found[i][2]
  end
  return out
end
local out, skip, top = {}, 0, after_version and ARGV[5] or '+inf'
while #out < 2 * most do
  local page = redis.call('ZREVRANGEBYSCORE', LOG, top, '-inf', 'WITHSCORES', 'LIMIT', skip, CHUNK)
  if #page == 0 then break end
  skip = skip + #page / 2
  for i = 1, #page, 2 do
    local passed = after_version and tonumber(page[i + 1]) == after_version and not less(page[i], after_id)
    if not passed and #out < 2 * most and string.sub(page[i], 1, #prefix) == prefix then
      out[#out + 1] = page[i]
      out[#out + 1] = page[i + 1]
    end
  end
end
return out
