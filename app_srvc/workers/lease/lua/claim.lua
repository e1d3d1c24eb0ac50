-- Claim jobs from the first of some queues that has any, under one lease each, in one step.
--
-- KEYS 1 app:claim:E  list  the queue's name and the ids of the jobs; what is in hand under this token
--      2 rq:worker:W  hash  state and current_job are set, if the worker is known; left alone if it is no hash
--      3 rq:suspended  string  while it is there, nobody claims
--      4 app:queue:paused  set  names of queues that nobody claims from
--      5… rq:queue:Q  lists, in the order in which they are drained
-- and of the queue Q that jobs are taken from:
--        rq:wip:Q  zset  "J:E" is added with the second at which the lease ends, and FAR_S
--        rq:job:J  hash  read; status and who has it are set   rq:execution:J:E  hash  written
--        rq:executions:J  zset  E is added   rq:job:J:dependents  set  looked at
--
-- ARGV 1 E, a token for this claim; the same one asks again, if a reply was lost   2 W
--      3 length of the lease, seconds   4 how many jobs at most   5 largest data and meta that are taken, bytes; 0 for any
--      6 now, as RQ writes times   7 "1" if a job that is claimed counts as started   8… the names of the queues, as KEYS 5…
-- Returns {what, place, jobs, dropped}. What is "jobs", and place is the queue's, from 1 for KEYS 5; or
-- "suspended"; or "empty", and place is a list of those that may not be empty: nobody claims from them, as
-- they are paused or a key has a wrong type. A job is {J, data, timeout, result_ttl, failure_ttl, rescues,
-- more, meta}, where "more" is "1" if it asks for what RQ's own code does at its end, or if others depend on
-- it; meta is there with a limit only, and data is nil for a job that is too large.
-- Dropped is entry, reason, entry, reason… of what stood in the queue and is no job.

local claim, worker, token, name = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local lease_s, most, now_text = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
local max_bytes = tonumber(ARGV[5])
local names_from, is_start = 7, ARGV[7] == '1'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
-- Written out once: Redis would do it for each use.
local now_s = string.format('%.6f', now)
-- For how long Redis may be away, and what is in hand is still known when it is back.
local KNOWN_S = 86400
local ends_s, gone_s = string.format('%.6f', now + lease_s + FAR_S), string.format('%.6f', now + KNOWN_S)
local DROPPED_LIFE_S, MAX_WORD_BYTES = 86400, 200
-- After data of so many bytes no more jobs are taken: nobody else is served meanwhile.
local LARGEST_CLAIM = 1000000
local STATUSES = {queued = 1, created = 1, scheduled = 1, deferred = 1, started = 1, finished = 1, failed = 1,
  stopped = 1}

-- The job as it is returned, its status, whether it must run alone, and whether its hash may have a life.
local function read(id)
  local key = 'rq:job:' .. id
  if max_bytes > 0 and redis.call('TYPE', key).ok == 'hash' then
    if redis.call('HSTRLEN', key, 'data') > max_bytes or redis.call('HSTRLEN', key, 'meta') > max_bytes then
      return {id, false, false, false, false, false, false, false}, 'queued'
    end
  end
  local v = redis.pcall('HMGET', key, 'data', 'status', 'timeout', 'result_ttl', 'failure_ttl',
    'rescues', 'suspect', 'ttl', 'retries_left', 'repeats_left', 'webhooks', 'success_callback_name',
    'failure_callback_name', 'stopped_callback_name', 'worker_name')
  if v.err or not v[1] then return nil end
  if max_bytes > 0 then
    for at = 2, 15 do
      if v[at] and #v[at] > MAX_WORD_BYTES then
        return {id, false, false, false, false, false, false, false}, 'queued'
      end
    end
  end
  local more = v[9] or v[10] or v[11] or (v[12] or '') .. (v[13] or '') .. (v[14] or '') ~= ''
  local rescues = (v[6] or v[7]) and string.format('%d', tonumber(v[6]) or 0)
  local job = {id, v[1], v[3], v[4], v[5], rescues, more and '1' or false}
  if max_bytes > 0 then job[8] = redis.call('HGET', key, 'meta') end
  -- A `ttl` makes a job mortal, and so does its last end, if it has run before.
  return job, v[2], v[7], v[8] or (v[15] and v[15] ~= '')
end

-- Asked again: what is still in hand.
local held = redis.call('LRANGE', claim, 0, -1)
if #held > 0 then
  local jobs, ids, place = {}, {}, 0
  for at = 1, #KEYS - 4 do
    if ARGV[names_from + at] == held[1] then place = at end
  end
  for at = 2, #held do
    if type(redis.pcall('ZSCORE', 'rq:wip:' .. held[1], held[at] .. ':' .. token)) == 'string' then
      local job = read(held[at])
      if job then
        jobs[#jobs + 1] = job
        ids[#ids + 1] = held[at]
      end
    end
  end
  -- The list says by its places which job runs, so it holds what is returned.
  redis.call('DEL', claim)
  if #jobs > 0 then
    redis.call('RPUSH', claim, held[1], unpack(ids))
    redis.call('EXPIRE', claim, KNOWN_S)
    for _, id in ipairs(ids) do redis.call('ZADD', 'rq:wip:' .. held[1], ends_s, id .. ':' .. token) end
    return {'jobs', place, jobs, {}}
  end
end

local function idle(what, closed, dropped)
  if redis.call('EXISTS', worker) == 1 then
    local told = redis.pcall('HSET', worker, 'state', what == 'suspended' and 'suspended' or 'idle',
      'current_job_working_time', 0)
    -- A Redis that refuses to write must be heard: it may be a master no more.
    if type(told) == 'table' and not string.find(told.err, 'WRONGTYPE', 1, true) then return told end
    redis.pcall('HDEL', worker, 'current_job')
  end
  return {what, closed, {}, dropped}
end

if redis.call('EXISTS', KEYS[3]) == 1 then return idle('suspended', {}, {}) end
local any_paused = redis.call('EXISTS', KEYS[4]) == 1

local function lease_end(score)
  score = tonumber(score)
  return score > now + FAR_S / 2 and score - FAR_S or score
end

local function is_running(wip, id)
  local others = redis.pcall('ZRANGE', 'rq:executions:' .. id, 0, -1)
  if others.err then
    redis.call('DEL', 'rq:executions:' .. id)
    return false
  end
  for _, other in ipairs(others) do
    local score = redis.call('ZSCORE', wip, id .. ':' .. other)
    if score and lease_end(score) > now then return true end
  end
  return false
end

local function take(queue, queue_name)
  local wip, jobs, dropped, looked_at, bytes = 'rq:wip:' .. queue_name, {}, {}, 0, 0
  local kind = redis.call('TYPE', wip).ok
  local ids = redis.pcall('LRANGE', queue, 0, most - 1)
  if ids.err or (kind ~= 'zset' and kind ~= 'none') then return nil end
  local seen, entries, scores, lasting = {}, {}, {}, {}
  for _, id in ipairs(ids) do
    local problem, job, status, is_suspect, is_mortal
    if (max_bytes > 0 and #id > MAX_WORD_BYTES) or not string.find(id, '^[%w_%-]+$') then
      problem = 'bad_id'
    else
      job, status, is_suspect, is_mortal = read(id)
      if not job then
        problem = 'no_job'
      elseif status and not STATUSES[status] then
        problem = status == 'canceled' and 'canceled' or 'unknown_status'
      elseif seen[id] or (status == 'started' and is_running(wip, id)) then
        problem = 'runs_already'
      end
    end
    if problem then
      dropped[#dropped + 1] = id
      dropped[#dropped + 1] = problem
      -- Nobody will end it any more.
      if problem == 'unknown_status' then
        redis.call('EXPIRE', 'rq:job:' .. id, DROPPED_LIFE_S)
      end
    else
      -- A job that was in hand when a whole worker died runs alone, so that it is known who is to blame.
      if is_suspect and #jobs > 0 then break end
      seen[id] = true
      jobs[#jobs + 1] = job
      entries[#entries + 1] = id
      if is_mortal then lasting[#lasting + 1] = id end
      if job[2] then bytes = bytes + #job[2] end
      if is_suspect or bytes > LARGEST_CLAIM then
        looked_at = looked_at + 1
        break
      end
    end
    looked_at = looked_at + 1
  end
  if looked_at == 0 then return jobs, dropped end
  -- What depends on a job must not wait for the next ones: RQ's own code ends such a job at once.
  if #jobs > 0 and max_bytes == 0 then
    local dependents = {}
    for at, id in ipairs(entries) do dependents[at] = 'rq:job:' .. id .. ':dependents' end
    if redis.call('EXISTS', unpack(dependents)) > 0 then
      for at, key in ipairs(dependents) do
        if redis.call('EXISTS', key) == 1 then jobs[at][7] = '1' end
      end
    end
  end
  -- The first write: with Redis' memory full, the ones after it are allowed, as they free more than they take.
  redis.call('DEL', claim)
  if #jobs > 0 then
    for at, id in ipairs(entries) do
      scores[2 * at - 1] = ends_s
      scores[2 * at] = id .. ':' .. token
    end
    redis.call('ZADD', wip, unpack(scores))
    redis.call('RPUSH', claim, queue_name, unpack(entries))
    redis.call('EXPIRE', claim, KNOWN_S)
  end
  redis.call('LTRIM', queue, looked_at, -1)
  for _, id in ipairs(entries) do
    local execution, executions = 'rq:execution:' .. id .. ':' .. token, 'rq:executions:' .. id
    -- These get a life when the lease is renewed; most are gone before.
    redis.call('HSET', execution, 'id', token, 'created_at', now_s, 'last_heartbeat', now_s,
      'worker_name', name)
    if type(redis.pcall('ZADD', executions, gone_s, token)) == 'table' then
      redis.call('DEL', executions)
      redis.call('ZADD', executions, gone_s, token)
    end
    if is_start then
      redis.call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', now_text,
        'last_heartbeat', now_text, 'worker_name', name)
    end
  end
  for _, id in ipairs(lasting) do redis.call('PERSIST', 'rq:job:' .. id) end
  return jobs, dropped
end

local all_dropped, closed = {}, {}
for at = 5, #KEYS do
  local queue_name = ARGV[names_from + at - 4]
  local jobs, dropped
  if not (any_paused and redis.call('SISMEMBER', KEYS[4], queue_name) == 1) then
    jobs, dropped = take(KEYS[at], queue_name)
  end
  if not jobs then
    closed[#closed + 1] = at - 4
  else
    for _, word in ipairs(dropped) do all_dropped[#all_dropped + 1] = word end
    if #jobs > 0 then
      if redis.call('EXISTS', worker) == 1 then
        redis.pcall('HSET', worker, 'state', 'busy', 'current_job', jobs[1][1],
          'current_job_working_time', 0)
      end
      return {'jobs', at - 4, jobs, all_dropped}
    end
  end
end
return idle('empty', closed, all_dropped)
