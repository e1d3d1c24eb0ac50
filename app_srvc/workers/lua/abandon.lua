-- End the lease of a job whose process died, at once: the next rescue settles it.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" gets the score 0   2 rq:job:J  hash  meta, which says why
--      5 rq:worker:W  hash  idle; counters   (3 and 4 are as for the other scripts, and not used)
--
-- ARGV 1 "J:E"   2 meta   3 seconds worked
-- Returns 1, or 0 if the lease was taken away; the job is then as it was.

if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HSET', KEYS[5], 'state', 'idle', 'current_job_working_time', 0)
  redis.call('HDEL', KEYS[5], 'current_job')
  redis.call('HINCRBYFLOAT', KEYS[5], 'total_working_time', ARGV[3])
  redis.call('HINCRBY', KEYS[5], 'failed_job_count', 1)
end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'meta', ARGV[2]) end
return 1
