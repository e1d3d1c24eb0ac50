-- Put jobs back at the head of their queue that a worker of RQ took out of it and never began: it is dead.
--
-- KEYS 1 rq:queue:Q:intermediate  list  where such a worker has a job in between   2 rq:queue:Q  list
--      3 rq:wip:Q  zset  looked at   4 rq:queues  set
-- and for each J: rq:job:J  hash  status   rq:executions:J  zset  looked at
--
-- ARGV 1 how many are told of, at most   2… ids that have been there for too long, in their order
-- Returns {ids that were put back, ids that are there now}. A job that is in hand stays; what has ended, was
-- moved, or is no job, is only removed.

local between, queue, wip = KEYS[1], KEYS[2], KEYS[3]
-- An error here, before anything is taken, if one of them is something else.
redis.call('LLEN', queue)
redis.call('ZCARD', wip)
local WAITING, back = {queued = 1, created = 1, started = 1}, {}

local function is_in_hand(id)
  local executions = redis.pcall('ZRANGE', 'rq:executions:' .. id, 0, -1)
  if executions.err then return false end
  for _, execution in ipairs(executions) do
    if redis.call('ZSCORE', wip, id .. ':' .. execution) then return true end
  end
  return false
end

for at = 2, #ARGV do
  local id = ARGV[at]
  if not is_in_hand(id) and redis.call('LREM', between, 1, id) == 1 then
    local job = 'rq:job:' .. id
    local status = redis.pcall('HGET', job, 'status')
    if type(status) == 'string' and WAITING[status] then
      redis.call('HSET', job, 'status', 'queued')
      back[#back + 1] = id
    end
  end
end
for at = #back, 1, -1 do redis.call('LPUSH', queue, back[at]) end
if #back > 0 then redis.call('SADD', KEYS[4], queue) end
return {back, redis.call('LRANGE', between, 0, ARGV[1] - 1)}
