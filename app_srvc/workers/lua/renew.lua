-- Renew the lease of a job that is in hand, and the life of its worker.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" gets a new end, if it is there   2 rq:job:J  hash  fields are set
--      3 rq:execution:J:E  hash   4 rq:executions:J  zset   5 rq:worker:W  hash  heartbeat and life
--
-- ARGV 1 "J:E"   2 E   3 length of the lease, seconds   4 life of the worker, seconds
--      5 now, as RQ writes times   6 seconds worked on this job   7… fields of the job and their values
-- Returns 1, or 0 if the lease was taken away; the job is then as it was.

local wip, job, execution, executions, worker = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lease_s = tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

if redis.call('EXISTS', worker) == 1 then
  redis.call('HSET', worker, 'last_heartbeat', ARGV[5], 'current_job_working_time', ARGV[6])
  redis.call('EXPIRE', worker, ARGV[4])
end
if not redis.call('ZSCORE', wip, ARGV[1]) or redis.call('EXISTS', job) == 0 then return 0 end
redis.call('ZADD', wip, now + lease_s, ARGV[1])
redis.call('HSET', execution, 'last_heartbeat', now)
redis.call('EXPIRE', execution, lease_s)
redis.call('ZADD', executions, now + lease_s + 60, ARGV[2])
redis.call('EXPIRE', executions, lease_s + 60)
redis.call('HSET', job, 'last_heartbeat', ARGV[5])
for at = 7, #ARGV, 2 do redis.call('HSET', job, ARGV[at], ARGV[at + 1]) end
return 1
