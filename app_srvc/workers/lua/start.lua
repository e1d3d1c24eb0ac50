-- Mark a job that is in hand as started: from here on, its loss is a try.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" is looked at   2 rq:job:J  hash  status, times, worker
--
-- ARGV 1 "J:E"   2 now, as RQ writes times   3 the worker
-- Returns 1, or 0 if the lease was taken away; the job is then as it was.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'status', 'started', 'started_at', ARGV[2], 'last_heartbeat', ARGV[2],
  'worker_name', ARGV[3])
return 1
