-- Put jobs that were claimed and not started back at the head of their queue, in their order.
--
-- KEYS 1 app:claim:E  list  the queue's name and the ids; cut to what stays in hand
-- and of the queue Q: rq:wip:Q  zset   rq:queue:Q  list; for each job J: rq:job:J  hash  status and life
--      rq:execution:J:E  hash   rq:executions:J  zset
--
-- ARGV 1 E   2 how many of the ids stay in hand
--      3 the place of the job that ran when its process died, from 1; 0 for none. It gets one more of `rescues`
-- Returns how many were put back.

local token, keep, died = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('LRANGE', KEYS[1], 0, -1)
if #held == 0 then return 0 end
local queue, wip, back = 'rq:queue:' .. held[1], 'rq:wip:' .. held[1], {}
-- With something else in place of the queue, they are left to be rescued when that is put right.
if type(redis.pcall('LLEN', queue)) == 'number' then
  for at = #held, keep + 2, -1 do
    local id = held[at]
    local entry, job = id .. ':' .. token, 'rq:job:' .. id
    if redis.pcall('ZREM', wip, entry) == 1 then
      redis.call('DEL', 'rq:execution:' .. entry)
      redis.pcall('ZREM', 'rq:executions:' .. id, token)
      local status, ttl = unpack(redis.pcall('HMGET', job, 'status', 'ttl'))
      -- Whatever has another status was ended or moved by somebody.
      if status == 'started' or status == 'queued' then
        redis.call('HSET', job, 'status', 'queued')
        redis.call('HDEL', job, 'started_at', 'last_heartbeat', 'worker_name')
        if at == died + 1 then
          local count = redis.pcall('HINCRBY', job, 'rescues', 1)
          redis.call('HSET', job, 'suspect', 1, 'rescues', type(count) == 'number' and count or 1)
        end
        -- The time that it may wait begins anew: the claim has ended it.
        if ttl and (tonumber(ttl) or 0) > 0 then redis.pcall('EXPIRE', job, ttl) end
        back[#back + 1] = id
      end
    end
  end
  if #back > 0 then redis.call('LPUSH', queue, unpack(back)) end
end
if keep == 0 then redis.call('DEL', KEYS[1]) else redis.call('LTRIM', KEYS[1], 0, keep) end
return #back
