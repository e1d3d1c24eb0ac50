-- Put jobs that were claimed and not started back at the head of their queue, in their order.
--
-- KEYS 1 app:claim:E  list  the queue's name and the ids; cut to what stays in hand
-- and of the queue Q: rq:wip:Q  zset   rq:queue:Q  list; for each job J: rq:job:J  hash
--      rq:execution:J:E  hash   rq:executions:J  zset
--
-- ARGV 1 E   2 how many of the ids stay in hand
-- Returns how many were put back.

local token, keep = ARGV[1], tonumber(ARGV[2])
local held = redis.call('LRANGE', KEYS[1], 0, -1)
local queue, back = held[1], {}
for at = #held, keep + 2, -1 do
  local id = held[at]
  local entry = id .. ':' .. token
  if redis.call('ZREM', 'rq:wip:' .. queue, entry) == 1 then
    redis.call('DEL', 'rq:execution:' .. entry)
    redis.pcall('ZREM', 'rq:executions:' .. id, token)
    local status = redis.pcall('HGET', 'rq:job:' .. id, 'status')
    -- Whatever has another status was ended or moved by somebody.
    if status == 'started' or status == 'queued' then
      redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
      back[#back + 1] = id
    end
  end
end
if #back > 0 then redis.call('LPUSH', 'rq:queue:' .. queue, unpack(back)) end
if keep == 0 then redis.call('DEL', KEYS[1]) elseif #held > 0 then redis.call('LTRIM', KEYS[1], 0, keep) end
return #back
