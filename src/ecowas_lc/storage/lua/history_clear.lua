-- Remove a history. ARGV: operation id, or '' to leave nothing behind; how many milliseconds ago it was asked for.
-- The removal is remembered for a while, so that the same operation, sent again after its answer was lost,
-- keeps what others have appended since, and no earlier journal brings back what was removed.
-- Returns {KEPT, 1 if there was one, 1 if a process keeps a journal of it}, {FOREIGN, key, kind}.

local CLEARED_REMEMBERED_MS = 86400000 -- for histories with journals: longer than outages last
local operation, age = ARGV[1], tonumber(ARGV[2])
local kind, refusal = history_kind()
if refusal then return refusal end
local was_there = kind == 'none' and 0 or 1
if operation == '' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  return {KEPT, was_there, 0}
end

local now = now_ms()
local known = redis.call('ZMSCORE', KEYS[2], 'o' .. operation, 'n' .. operation, 'began', 'journal', 'cleared')
local has_journal = known[4] and -known[4] - MARKS > now - CLEARED_REMEMBERED_MS
if known[1] or known[2] then return {KEPT, known[1] and 1 or 0, has_journal and 1 or 0} end
if kind == 'list' and age > 0 and known[3] and tonumber(known[3]) > now - age then
  return {KEPT, 0, has_journal and 1 or 0} -- the history began after the removal
end

redis.call('UNLINK', KEYS[1]) -- first: a full server never refuses it, and then lets the following writes through
-- Without the rights to remember the removal, nothing is kept of it.
local function remember()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, '+inf')
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. OPERATION_REMEMBERED_MS - now, '(0')
  redis.call('ZADD', KEYS[2], -now, (was_there == 1 and 'o' or 'n') .. operation, 
    math.min(-MARKS - now + age, tonumber(known[5] or 0)), 'cleared')
  redis.call('PEXPIRE', KEYS[2], has_journal and CLEARED_REMEMBERED_MS or OPERATION_REMEMBERED_MS)
end
if not pcall(remember) then redis.call('UNLINK', KEYS[2]) end
return {KEPT, was_there, has_journal and 1 or 0}
