-- Store one batch of pending writes: ttl, ns, id, batch, k, (digest, element)*k, digests that must be there.
-- Answers '' when stored; otherwise the digests that the thread lacks, and has written nothing.
local wrong, known = check_format()
if wrong then return wrong end
local ttl, batch, count = ARGV[1], ARGV[4], tonumber(ARGV[5])
local row = 'w' .. ARGV[2] .. '\0' .. ARGV[3] .. '\0'
local missing = {}
missing_elements(ARGV[6 + 2 * count], missing)
if #missing > 0 then return table.concat(missing) end

if not known then redis.call('HSET', H, 'format', FORMAT) end
for i = 0, count - 1 do redis.call('HSET', H, 'e' .. ARGV[6 + 2 * i], ARGV[7 + 2 * i]) end
local function taken(k) return redis.call('HEXISTS', H, row .. k) == 1 end
local free = 0
if taken(0) then
  local low, high = 0, 1
  while taken(high) do low, high = high, 2 * high end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if taken(middle) then low = middle else high = middle end
  end
  free = high
end
-- A retry after a lost connection sends the same batch again. It is written again, too: a WAIT behind a script that
-- writes nothing waits for nothing.
if free > 0 and redis.call('HGET', H, row .. (free - 1)) == batch then free = free - 1 end
redis.call('HSET', H, row .. free, batch)
renew(ttl)
return ''
