-- Renew the leases of what is in hand under one token, and say which job runs now.
--
-- KEYS 1 app:claim:E  list  the queue's name and the ids; gets a new life   2 rq:worker:W  hash
-- and of the queue Q: rq:wip:Q  zset; for each job J: rq:job:J  hash   rq:execution:J:E  hash
--      rq:executions:J  zset
--
-- ARGV 1 E   2 length of the lease, seconds   3 now, as RQ writes times
--      4 the place of the job that runs in the list, from 1; 0 for none   5 seconds that it has run
-- Returns how many are still in hand. The execution of the job that runs tells `rescue` that it has begun.

local token, lease_s = ARGV[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- For how long Redis may be away, and what is in hand is still known when it is back.
local KNOWN_S = 86400
local held = redis.call('LRANGE', KEYS[1], 0, -1)
if #held == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], KNOWN_S)
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
local kept, running = 0, tonumber(ARGV[4])
for at = 2, #held do
  local id, wip = held[at], 'rq:wip:' .. held[1]
  local entry = id .. ':' .. token
  if redis.call('ZSCORE', wip, entry) then
    kept = kept + 1
    redis.call('ZADD', wip, now + lease_s + FAR_S, entry)
    redis.call('HSET', 'rq:execution:' .. entry, 'last_heartbeat', now)
    redis.call('EXPIRE', 'rq:execution:' .. entry, KNOWN_S)
    redis.pcall('ZADD', 'rq:executions:' .. id, now + KNOWN_S, token)
    redis.call('EXPIRE', 'rq:executions:' .. id, KNOWN_S)
    if at == running + 1 then redis.call('HSET', 'rq:execution:' .. entry, 'begun', 1) end
    if redis.call('TYPE', 'rq:job:' .. id).ok == 'hash' then
      redis.call('HSET', 'rq:job:' .. id, 'last_heartbeat', ARGV[3])
    end
  end
end
if running > 0 and held[running + 1] and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.pcall('HSET', KEYS[2], 'state', 'busy', 'current_job', held[running + 1],
    'current_job_working_time', ARGV[5])
end
return kept
