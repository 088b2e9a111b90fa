-- Store one batch of pending writes: ttl, ns, id, batch, k, (digest, element)*k, digests that must be there.
-- Returns '' when stored; otherwise the digests that the thread lacks; then nothing was written.
local row, batch, count = 'w' .. ARGV[2] .. '\0' .. ARGV[3] .. '\0', ARGV[4], tonumber(ARGV[5])
local have = redis.call('HMGET', H, 'format', 'N', 'pinned', row .. 0)
local wrong = format_error(have[1])
if wrong then return wrong end
local digests, missing = ARGV[6 + 2 * count], {}
for i = 1, #digests, 16 do
  local digest = string.sub(digests, i, i + 15)
  if redis.call('HEXISTS', H, 'e' .. digest) == 0 then missing[#missing + 1] = digest end
end
if #missing > 0 then return table.concat(missing) end

local free = 0
if have[4] then
  local low, high = 0, 1
  local function taken(k) return redis.call('HEXISTS', H, row .. k) == 1 end
  while taken(high) do low, high = high, 2 * high end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if taken(middle) then low = middle else high = middle end
  end
  free = high
  -- A retry after a lost connection sends the same batch again. It is written again, because a WAIT after a script that
  -- writes nothing waits for nothing.
  local last = free == 1 and have[4] or redis.call('HGET', H, row .. (free - 1))
  if last == batch then free = free - 1 end
end
local words = { row .. free, batch }
if not have[1] then words[3], words[4] = 'format', FORMAT end
for i = 6, 5 + 2 * count, 2 do
  words[#words + 1], words[#words + 2] = 'e' .. ARGV[i], ARGV[i + 1]
end
check_memory(have[1])
renew(ARGV[1], have[2], have[3])
for first = 1, #words, CHUNK do
  redis.call('HSET', H, unpack(words, first, math.min(first + CHUNK - 1, #words)))
end
if not have[1] then renew(ARGV[1], have[2], have[3]) end
return ''
