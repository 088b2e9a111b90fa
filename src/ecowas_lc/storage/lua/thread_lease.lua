-- Who may run a thread: what ('take', 'drop'), holder, milliseconds. KEYS[1] holds the holder's name.
-- Returns 1 if the holder has it (with 'drop': had it), 0 if another holder has it.
local what, holder, ms = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('GET', KEYS[1])
if found and found ~= holder then return 0 end
if what == 'take' then
  redis.call('SET', KEYS[1], holder, 'PX', ms)
  return 1
end
return redis.call('DEL', KEYS[1])
