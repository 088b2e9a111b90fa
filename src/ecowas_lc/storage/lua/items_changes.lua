-- What changed under a prefix of ids: prefix, first and last id as ZRANGE BYLEX has them, the version that the client
-- knows or '', how many ids to answer at most.
-- Returns {} for an empty bucket; {version} if nothing is new; {version, 'changes', {id, version, …}, {id, version,
-- …} of the removed ones}; or, a page at a time, {version, 'all', {id, …}}.
local prefix, first, last, known, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local head = redis.call('HMGET', HEAD, 'format', 'version', 'horizon')
local wrong = format_error(head[1])
if wrong then return wrong end
if not head[1] then return {} end
local version = head[2]
if known == version then return { version } end
local function under_prefix(found)
  local out = {}
  for i = 1, #found, 2 do
    if string.sub(found[i], 1, #prefix) == prefix then
      out[#out + 1] = found[i]
      out[#out + 1] = found[i + 1]
    end
  end
  return out
end
local since = known ~= '' and tonumber(known)
if since and since >= tonumber(head[3]) and since < tonumber(version) then
  local changed = redis.call('ZRANGE', LOG, '(' .. known, '+inf', 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
  if #changed < 2 * most then
    local gone = redis.call('ZRANGE', GONE, '(' .. known, '+inf', 'BYSCORE', 'WITHSCORES')
    return { version, 'changes', under_prefix(changed), under_prefix(gone) }
  end
end
return { version, 'all', redis.call('ZRANGE', IDS, first, last, 'BYLEX', 'LIMIT', 0, most) }
