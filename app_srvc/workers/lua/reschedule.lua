-- Move a job that is in hand to the scheduled registry: it is to run again later.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" is removed   2 rq:job:J  hash  status, meta   3 rq:execution:J:E  hash  removed
--      4 rq:executions:J  zset  E is removed   5 rq:worker:W  hash  idle; counters
--      6 rq:scheduled:Q  zset  J with the second at which it is due; the fraction counts
--
-- ARGV 1 "J:E"   2 E   3 J   4 delay, seconds   5 meta   6 now, as RQ writes times
--      7 seconds worked   8 the worker's counter to raise, or ""
-- Returns 1, or 0 if the lease was taken away; the job is then as it was.

if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HSET', KEYS[5], 'state', 'idle', 'current_job_working_time', 0)
  redis.call('HDEL', KEYS[5], 'current_job')
  redis.call('HINCRBYFLOAT', KEYS[5], 'total_working_time', ARGV[7])
  if ARGV[8] ~= '' then redis.call('HINCRBY', KEYS[5], ARGV[8], 1) end
end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
redis.call('HSET', KEYS[2], 'status', 'scheduled', 'meta', ARGV[5], 'ended_at', ARGV[6])
redis.call('ZADD', KEYS[6], now + tonumber(ARGV[4]), ARGV[3])
return 1
