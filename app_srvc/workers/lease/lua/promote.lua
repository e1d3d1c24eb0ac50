-- Move the jobs that are due from the scheduled registry to their queue. Any process may call it at any
-- time: it is one step, so there is no lock, no leader and no double.
--
-- KEYS 1 rq:scheduled:Q  zset  due ids are removed   2 rq:queue:Q  list  they are pushed, most at the end
--      3 rq:queues  set  the queue's key is added
-- and for each due J: rq:job:J  hash  status, enqueued_at and life; an id without one is dropped
--
-- ARGV 1 how many at most   2 now, as RQ writes times
-- Returns {number promoted, ids that were dropped, seconds until the next one is due or -1}.

-- An error here, before anything is moved, if the queue is something else.
redis.call('LLEN', KEYS[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local promoted, dropped = 0, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local job = 'rq:job:' .. id
  if redis.call('TYPE', job).ok == 'hash' then
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[2])
    local front, retry_front, ended_at, ttl = unpack(redis.call('HMGET', job, 'enqueue_at_front',
      'enqueue_at_front_on_retry', 'ended_at', 'ttl'))
    local was_run = ended_at and ended_at ~= ''
    local at_front = front == '1' or (retry_front == '1' and was_run)
    redis.call(at_front and 'LPUSH' or 'RPUSH', KEYS[2], id)
    -- The time that it may wait begins now.
    if ttl and (tonumber(ttl) or 0) > 0 then redis.pcall('EXPIRE', job, ttl) end
    promoted = promoted + 1
  else
    dropped[#dropped + 1] = id
  end
  redis.call('ZREM', KEYS[1], id)
end
if promoted > 0 then redis.call('SADD', KEYS[3], KEYS[2]) end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {promoted, dropped, first[2] and tostring(first[2] - now) or '-1'}
