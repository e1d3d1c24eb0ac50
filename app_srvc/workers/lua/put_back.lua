-- Put a job that was claimed and not started back at the head of its queue.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" is removed   2 rq:job:J  hash  status   3 rq:execution:J:E  hash  removed
--      4 rq:executions:J  zset  E is removed   5 rq:worker:W  hash  idle   6 rq:queue:Q  list  J goes first
--
-- ARGV 1 "J:E"   2 E   3 J
-- Returns 1, or 0 if the lease was taken away; the queue is then as it was.

if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HSET', KEYS[5], 'state', 'idle')
  redis.call('HDEL', KEYS[5], 'current_job')
end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'status', 'queued')
redis.call('LPUSH', KEYS[6], ARGV[3])
return 1
