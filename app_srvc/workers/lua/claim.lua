-- Claim the job at the head of a queue under a lease. One step: a job is in no moment in no list.
--
-- KEYS 1 rq:queue:Q    list  its head is looked at, and removed once the lease stands
--      2 rq:wip:Q      zset  "J:E" is added with the second at which the lease ends
--      3 rq:worker:W   hash  state and current_job are set
--      4 rq:suspended  string  while it is there, nobody claims
-- and for the job J that is claimed:
--        rq:job:J            hash  read, and made to stay
--        rq:execution:J:E    hash  written
--        rq:executions:J     zset  E is added
--
-- ARGV 1 E, a new id for this execution; the same one asks for the same job again, if a reply was lost
--      2 length of the lease, seconds   3 W   4 largest value that is taken, bytes
--      5 how many bad entries may be dropped   6… the fields of the job to return
-- Returns {what, J, values, dropped}: what is "job", "too_large" (a job, without its values), "empty" or
-- "suspended"; dropped lists entry, reason, entry, reason… of what stood before it in the queue.

local queue, wip, worker = KEYS[1], KEYS[2], KEYS[3]
local execution, lease_s, name = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local max_bytes, may_drop = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local dropped = {}

local function answer(id)
  local key, values = 'rq:job:' .. id, {}
  for at = 6, #ARGV do
    if redis.call('HSTRLEN', key, ARGV[at]) > max_bytes then return {'too_large', id, {}, dropped} end
    values[#values + 1] = redis.call('HGET', key, ARGV[at])
  end
  return {'job', id, values, dropped}
end

local function is_running(id)
  local key = 'rq:executions:' .. id
  local others = redis.pcall('ZRANGE', key, 0, -1)
  if others.err then
    redis.call('DEL', key)
    return false
  end
  for _, other in ipairs(others) do
    local score = redis.call('ZSCORE', wip, id .. ':' .. other)
    if score and tonumber(score) > now then return true end
  end
  return false
end

local function problem_of(id)
  if #id > 200 or not string.find(id, '^[%w_%-]+$') then return 'bad_id' end
  if redis.call('TYPE', 'rq:job:' .. id).ok ~= 'hash' then return 'no_job' end
  if is_running(id) then return 'runs_already' end
end

local held = redis.call('HGET', worker, 'current_job')
if held and redis.call('ZSCORE', wip, held .. ':' .. execution) then
  redis.call('ZADD', wip, now + lease_s, held .. ':' .. execution)
  return answer(held)
end
if redis.call('EXISTS', KEYS[4]) == 1 then return {'suspended', '', {}, dropped} end

while #dropped < 2 * may_drop do
  local id = redis.call('LINDEX', queue, 0)
  if not id then break end
  local problem = problem_of(id)
  if not problem then
    redis.call('ZADD', wip, now + lease_s, id .. ':' .. execution)
    redis.call('HSET', 'rq:execution:' .. id .. ':' .. execution,
      'id', execution, 'created_at', now, 'last_heartbeat', now, 'worker_name', name)
    redis.call('EXPIRE', 'rq:execution:' .. id .. ':' .. execution, lease_s)
    redis.call('ZADD', 'rq:executions:' .. id, now + lease_s + 60, execution)
    redis.call('EXPIRE', 'rq:executions:' .. id, lease_s + 60)
    redis.call('PERSIST', 'rq:job:' .. id)
    redis.call('HSET', worker, 'state', 'busy', 'current_job', id)
    redis.call('LPOP', queue)
    return answer(id)
  end
  dropped[#dropped + 1] = id
  dropped[#dropped + 1] = problem
  redis.call('LPOP', queue)
end
return {'empty', '', {}, dropped}
