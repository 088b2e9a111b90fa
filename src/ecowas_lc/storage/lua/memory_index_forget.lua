-- Remove names that have not been renewed since they were read. ARGV: name, score as text, name, score, …
-- Returns how many were removed.

local gone = 0
for index = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if score and (score == ARGV[index + 1] or tonumber(score) == tonumber(ARGV[index + 1])) then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return gone
