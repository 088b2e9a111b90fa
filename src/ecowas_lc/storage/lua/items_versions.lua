-- The versions of several buckets, one for each head; false if there is none.
local versions = {}
for i, head in ipairs(KEYS) do versions[i] = redis.call('HGET', head, 'version') end
return versions
