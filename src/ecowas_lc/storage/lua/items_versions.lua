-- The versions of several buckets, one for each head; false where there is none.
local versions = {}
for i, head in ipairs(KEYS) do versions[i] = redis.call('HGET', head, 'version') end
return versions
