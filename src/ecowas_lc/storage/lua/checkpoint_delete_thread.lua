-- Delete a thread: name of this removal ('': don't remember it), milliseconds for which it is remembered, so
-- that the same removal, sent again after its answer was lost, keeps what others have started since.
-- Returns 1 if there was a thread, 0 if not, 2 if it was removed before and has been started again.
local wrong, known = check_format()
if wrong then return wrong end
local operation, lasts = ARGV[1], tonumber(ARGV[2])
local has_checkpoints = redis.call('HEXISTS', H, 'N')
if operation == '' then
  redis.call('UNLINK', H)
  return has_checkpoints
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removals, longest = {}, lasts
for till, name in string.gmatch(known and redis.call('HGET', H, 'D') or '', '(%d+) (%w+)\n') do
  if name == operation then return 2 * has_checkpoints end
  if tonumber(till) > now then
    removals[#removals + 1] = till .. ' ' .. name .. '\n'
    longest = math.max(longest, till - now)
  end
end
removals[#removals + 1] = string.format('%.0f %s\n', now + lasts, operation)

redis.call('UNLINK', H) -- first: a full server never refuses it, and then lets the following writes through
-- Without the rights to remember the removal, nothing is kept of it.
local function remember()
  redis.call('HSET', H, 'format', FORMAT, 'D', table.concat(removals))
  redis.call('PEXPIRE', H, string.format('%.0f', longest))
end
if not pcall(remember) then redis.call('UNLINK', H) end
return has_checkpoints
