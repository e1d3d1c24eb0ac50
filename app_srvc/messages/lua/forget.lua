-- Take jobs out of Redis: their messages have ended, or are to be ended.
--
-- Removes, for each job id J of queue Q: rq:job:J, rq:results:J, rq:executions:J and its rq:execution:J:E,
-- and J from rq:queue:Q, rq:wip:Q and the registries of Q.
--
-- ARGV: "1" to also look for the id in its list (reads the list), then id, queue for each job.
-- Returns the number of jobs that were there.

local removed = 0
for at = 2, #ARGV, 2 do
  local id, queue = ARGV[at], ARGV[at + 1]
  local executions = {}
  if redis.call('TYPE', 'rq:executions:' .. id).ok == 'zset' then
    executions = redis.call('ZRANGE', 'rq:executions:' .. id, 0, -1)
  end
  for _, execution in ipairs(executions) do
    redis.call('ZREM', 'rq:wip:' .. queue, id .. ':' .. execution)
    redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
  end
  for _, registry in ipairs({'finished', 'failed', 'canceled', 'deferred', 'scheduled'}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. queue, id)
  end
  if ARGV[1] == '1' then redis.call('LREM', 'rq:queue:' .. queue, 0, id) end
  redis.call('DEL', 'rq:executions:' .. id, 'rq:results:' .. id)
  removed = removed + redis.call('DEL', 'rq:job:' .. id)
end
return removed
