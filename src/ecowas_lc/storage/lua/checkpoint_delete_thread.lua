-- Delete a thread. Answers whether there was one.
local wrong, known = check_format()
if wrong then return wrong end
if not known then return 0 end
return redis.call('UNLINK', H)
