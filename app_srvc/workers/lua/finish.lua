-- End a job that is in hand, as RQ does: its registry, its result, its lives, the worker's counters.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" is removed   2 rq:job:J  hash  status; gets a life   3 rq:execution:J:E  hash  removed
--      4 rq:executions:J  zset  E is removed   5 rq:worker:W  hash  idle; counters
--      6 rq:finished:Q or rq:failed:Q  zset  J with the second at which it is forgotten
--      7 rq:results:J  stream  one more result; gets a life
--
-- ARGV 1 "J:E"   2 E   3 J   4 status   5 life, seconds   6 now, as RQ writes times   7 seconds worked
--      8 the worker's counter to raise   9… fields of the result and their values
-- Returns 1, or 0 if the lease was taken away; the job is then as it was.

if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HSET', KEYS[5], 'state', 'idle', 'current_job_working_time', 0)
  redis.call('HDEL', KEYS[5], 'current_job')
  redis.call('HINCRBYFLOAT', KEYS[5], 'total_working_time', ARGV[7])
  redis.call('HINCRBY', KEYS[5], ARGV[8], 1)
end
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[3], KEYS[4])
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local life_s = tonumber(ARGV[5])
redis.call('HSET', KEYS[2], 'status', ARGV[4], 'ended_at', ARGV[6])
redis.call('EXPIRE', KEYS[2], life_s)
redis.call('ZADD', KEYS[6], tonumber(redis.call('TIME')[1]) + life_s, ARGV[3])
redis.call('XADD', KEYS[7], 'MAXLEN', 10, '*', unpack(ARGV, 9))
redis.call('EXPIRE', KEYS[7], life_s)
return 1
