-- A thread is one hash (see docs/storage-format.md): its fields are named by their first letter.
--   format            the storage format's version
--   pinned            present if the thread never expires
--   N                 newest namespace;   M<ns>  the namespace before it
--   L<ns>             id of the namespace's latest checkpoint
--   c<ns>\0<id>       a checkpoint: link to the one before it, then what the client made
--   w<ns>\0<id>\0<k>  the k-th batch of writes pending on a checkpoint
--   v<ns>\0<channel>\0<version>  a channel's value: 'p' + blob, or 'l' + wrapper + mark + pieces of the list log;
--                     a wrapper in capitals: of the log that the channel has in the namespace ''
--   g<ns>\0<channel>\0<segment>  list log: SEGMENT digests of list elements;  n<ns>\0<channel>  how many
--   e<digest>         an element
--   r<run id>         present if this run wrote checkpoints
--   T                 what lists of threads say: length (2) and id of the checkpoint it is about, a blob
--   k<ns>\0<id>       notes on a checkpoint for keeping only the newest ones;  S  fields after the last sweep
--   D                 recent removals of this thread: until when each is remembered, and its name
-- A blob begins with the number of elements that it refers to (2 bytes) and their digests (16 bytes each).
-- All checks come before the first write: a script that fails half way is not rolled back. What may be refused (full
-- server, ACL) comes before what changes a thread: commands that come late are called early in a form that changes
-- nothing, the first of them one that a full server refuses. Once a script has written, that server refuses none.
local H = KEYS[1]
local FORMAT = '1'
local SHARED_LOGS = '1.1' -- format 1, and lists of several namespaces in one log
local WITHOUT_CHECKPOINTS_MS = 3600000
local CHUNK = 2000 -- unpack() of about 8,000 values overflows the stack
local SEGMENT = 64

-- A script consists of only the files it needs, because it defines their functions again at each call.

-- An error if the hash is not a thread, or if a newer version wrote it.
local function format_error(found)
  if found and found ~= FORMAT and found ~= SHARED_LOGS then
    return redis.error_reply('ECOWASFORMAT This thread is stored in format ' .. found ..
      ', and this version of ecowas_lc reads formats ' .. FORMAT .. ' and ' .. SHARED_LOGS .. '. Upgrade ecowas_lc.')
  end
  if not found and redis.call('EXISTS', H) == 1 then
    return redis.error_reply("ECOWASTYPE The thread's key holds a hash that is not a thread; it was left as it is.")
  end
end

-- Call it before the first write (see the top of this file). `known`: the format, if the hash exists.
local function check_memory(known)
  if known then redis.call('HSET', H, 'format', known) else redis.call('ZADD', H, 'XX', 0, '') end
end

local function check_format()
  local found = redis.call('HGET', H, 'format')
  return format_error(found), found
end

-- ttl: milliseconds; with '>' before them, or later where the thread already lives longer, never included.
local function expire(ttl, is_new)
  local ms = string.match(ttl, '%d+')
  if ms ~= ttl and not is_new then
    local left = redis.call('PTTL', H)
    if left == -1 or left > tonumber(ms) then return end
  end
  redis.call('PEXPIRE', H, ms)
end

-- Replace a thread with its staged copy, pinned or not, with a time to live ('': none). All or nothing.
local function take_place(source, ttl)
  local removals = redis.call('HGET', H, 'D')
  if removals then redis.call('HSET', source, 'D', removals) end
  if ttl == '' then redis.call('PERSIST', source) else redis.call('PEXPIRE', source, (string.match(ttl, '%d+'))) end
  local renamed = redis.pcall('RENAME', source, H)
  if renamed.err then redis.pcall('PEXPIRE', source, WITHOUT_CHECKPOINTS_MS) end
  return renamed.err and renamed
end

-- After a write. Without a ttl a thread that another saver let expire stays, as this saver promises; what came
-- before its first checkpoint, or after its last, expires if none follows.
local function renew(ttl, has_checkpoints, is_pinned, is_new)
  if not has_checkpoints then
    local ms = tonumber(string.match(ttl, '%d+') or WITHOUT_CHECKPOINTS_MS)
    redis.call('PEXPIRE', H, math.min(ms, WITHOUT_CHECKPOINTS_MS))
  elseif ttl == '' then
    redis.call('PERSIST', H)
  elseif not is_pinned then
    expire(ttl, is_new)
  end
end
