-- Say what this Redis knows about jobs, at one moment.
--
-- Reads, for each job id J of queue Q: rq:job:J (hash), rq:queue:Q (list), rq:scheduled:Q rq:deferred:Q
-- rq:wip:Q rq:executions:J (zsets), and app:redis:epoch (string).
--
-- ARGV: how to look for a queued id (see dispatch.lua), then id, queue for each job.
-- Returns: the epoch ("" if there is none), then for each job three values: status ("" = no job),
-- 1 if it is live (see dispatch.lua), 2 if its lease has ended and the rescue will find it, else 0; and
-- its meta.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
local look = ARGV[1]
local answers = {redis.call('GET', 'app:redis:epoch') or ''}

local function lease_end(score)
  score = tonumber(score)
  return score > now + FAR_S / 2 and score - FAR_S or score
end

-- 1 under a lease that has not ended, 2 under one that has and waits for the rescue, 0 under none.
local function lease_of(id, queue)
  local key, found = 'rq:executions:' .. id, 0
  if redis.call('TYPE', key).ok ~= 'zset' then return 0 end
  for _, execution in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local score = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if score and lease_end(score) > now then return 1 end
    if score then found = 2 end
  end
  return found
end

local function life_of(id, queue, status)
  if status == 'queued' then
    if look == '0' then return 1 end
    local lease = lease_of(id, queue)
    if lease == 0 and look == '1' and redis.call('LPOS', 'rq:queue:' .. queue, id) then return 1 end
    return lease
  elseif status == 'scheduled' or status == 'deferred' then
    return redis.call('ZSCORE', 'rq:' .. status .. ':' .. queue, id) and 1 or 0
  end
  return lease_of(id, queue)
end

for at = 2, #ARGV, 2 do
  local id, queue = ARGV[at], ARGV[at + 1]
  local job, key = {}, 'rq:job:' .. id
  if redis.call('TYPE', key).ok == 'hash' then job = redis.call('HMGET', key, 'status', 'meta') end
  local status = job[1] or ''
  answers[#answers + 1] = status
  answers[#answers + 1] = life_of(id, queue, status)
  answers[#answers + 1] = job[2] or ''
end
return answers
