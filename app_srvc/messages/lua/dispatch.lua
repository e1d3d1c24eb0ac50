-- Put jobs on their queues, each at most once, however often this is called with the same id.
--
-- Reads and writes, for each job id J of queue Q:
--   rq:job:J            hash    the job; written anew unless the job is live
--   rq:queue:Q          list    J is pushed at the end, if it is due now
--   rq:scheduled:Q      zset    J with the second at which it is due, if it is due later
--   rq:finished:Q rq:failed:Q rq:canceled:Q rq:deferred:Q   zset   J is taken out of them
--   rq:wip:Q            zset    "J:E" of each dead execution E is taken out
--   rq:executions:J     zset    executions of J; removed with their hashes rq:execution:J:E
--   rq:queues           set     Q's key is added
--
-- ARGV: now as RQ writes times, "1" to look for a queued id in its list (exact, but it reads the list),
--       then for each job: id, queue, data, description, meta, timeout, result_ttl, failure_ttl,
--       delay in seconds ("" = due now).
-- Returns, for each job: 1 = it was put there, 0 = it was live and is as it was.
--
-- Live is: queued; in the scheduled or deferred registry; or started under a lease that has not ended.
-- A hash alone is not live: its list may be gone.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local written_at, is_exact = ARGV[1], ARGV[2] == '1'
local FIELDS = 9

local function leased_until(id, queue)
  local latest = 0
  for _, execution in ipairs(redis.call('ZRANGE', 'rq:executions:' .. id, 0, -1)) do
    local score = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if score and tonumber(score) > latest then latest = tonumber(score) end
  end
  return latest
end

local function is_live(id, queue, status)
  if status == 'queued' then
    if not is_exact then return true end
    -- One that was claimed and not started is in no list, but under a lease.
    return redis.call('LPOS', 'rq:queue:' .. queue, id) ~= false or leased_until(id, queue) > now
  elseif status == 'scheduled' or status == 'deferred' then
    return redis.call('ZSCORE', 'rq:' .. status .. ':' .. queue, id) ~= false
  elseif status == 'started' then
    return leased_until(id, queue) > now
  end
  return false
end

local function forget(id, queue)
  for _, execution in ipairs(redis.call('ZRANGE', 'rq:executions:' .. id, 0, -1)) do
    redis.call('ZREM', 'rq:wip:' .. queue, id .. ':' .. execution)
    redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
  end
  for _, registry in ipairs({'finished', 'failed', 'canceled', 'deferred', 'scheduled'}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. queue, id)
  end
  redis.call('DEL', 'rq:executions:' .. id, 'rq:results:' .. id, 'rq:job:' .. id)
end

local answers = {}
for at = 3, #ARGV, FIELDS do
  local id, queue, delay = ARGV[at], ARGV[at + 1], ARGV[at + 8]
  local status = redis.call('HGET', 'rq:job:' .. id, 'status')
  if status and is_live(id, queue, status) then
    answers[#answers + 1] = 0
  else
    if status then forget(id, queue) end
    redis.call('HSET', 'rq:job:' .. id,
      'created_at', written_at, 'enqueued_at', written_at, 'origin', queue,
      'data', ARGV[at + 2], 'description', ARGV[at + 3], 'meta', ARGV[at + 4],
      'timeout', ARGV[at + 5], 'result_ttl', ARGV[at + 6], 'failure_ttl', ARGV[at + 7],
      'status', delay == '' and 'queued' or 'scheduled')
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
    if delay == '' then
      redis.call('RPUSH', 'rq:queue:' .. queue, id)
    else
      redis.call('ZADD', 'rq:scheduled:' .. queue, now + tonumber(delay), id)
    end
    answers[#answers + 1] = 1
  end
end
return answers
