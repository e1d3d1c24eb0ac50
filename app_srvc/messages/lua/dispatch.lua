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
-- ARGV: now as RQ writes times, how to look for a queued id (see below), then for each job: id, queue, data, description, meta, timeout, result_ttl, failure_ttl,
--       delay in seconds ("" = due now).
-- Returns, for each job: 1 = it was put there, 0 = it was live and is as it was.
--
-- Live is: queued; in the scheduled or deferred registry; or under a lease that has not ended.
-- A hash alone is not live: its list may be gone. How to look for an id that is said to be queued:
--   "0" trust the hash   "1" look into the list, which reads it: for few ids
--   "2" the caller has looked, and it is in no list
-- A key of a type that is not RQ's is removed: it must not keep the other jobs from their queues.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
local written_at, look = ARGV[1], ARGV[2]
local FIELDS = 9

local function executions_of(id)
  local key = 'rq:executions:' .. id
  if redis.call('TYPE', key).ok == 'zset' then return redis.call('ZRANGE', key, 0, -1) end
  redis.call('DEL', key)
  return {}
end

local function status_of(id)
  local key = 'rq:job:' .. id
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then return redis.call('HGET', key, 'status') or '' end
  if kind ~= 'none' then redis.call('DEL', key) end
  return false
end

local function lease_end(score)
  score = tonumber(score)
  return score > now + FAR_S / 2 and score - FAR_S or score
end

local function leased_until(id, queue)
  local latest = 0
  for _, execution in ipairs(executions_of(id)) do
    local score = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if score then latest = math.max(latest, lease_end(score)) end
  end
  return latest
end

local function is_live(id, queue, status)
  if status == 'queued' then
    if look == '0' then return true end
    -- One that was claimed and not started is in no list, but under a lease.
    if leased_until(id, queue) > now then return true end
    return look == '1' and redis.call('LPOS', 'rq:queue:' .. queue, id) ~= false
  elseif status == 'scheduled' or status == 'deferred' then
    return redis.call('ZSCORE', 'rq:' .. status .. ':' .. queue, id) ~= false
  elseif status == 'started' then
    return leased_until(id, queue) > now
  end
  return false
end

local function forget(id, queue)
  for _, execution in ipairs(executions_of(id)) do
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
  local status = status_of(id)
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
