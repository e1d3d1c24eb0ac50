-- Say what this Redis knows about jobs, at one moment.
--
-- Reads, for each job id J of queue Q: rq:job:J (hash), rq:queue:Q (list), rq:scheduled:Q rq:deferred:Q
-- rq:wip:Q rq:executions:J (zsets), and app:redis:epoch (string).
--
-- ARGV: "1" to look for a queued id in its list (exact, but it reads the list), then id, queue for each job.
-- Returns: the epoch ("" if there is none), then for each job three values: status ("" = no job),
-- 1 if it is live (see dispatch.lua) else 0, and its meta.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local is_exact = ARGV[1] == '1'
local answers = {redis.call('GET', 'app:redis:epoch') or ''}

local function is_leased(id, queue)
  for _, execution in ipairs(redis.call('ZRANGE', 'rq:executions:' .. id, 0, -1)) do
    local score = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if score and tonumber(score) > now then return true end
  end
  return false
end

local function is_live(id, queue, status)
  if status == 'queued' then
    if not is_exact then return true end
    return redis.call('LPOS', 'rq:queue:' .. queue, id) ~= false or is_leased(id, queue)
  elseif status == 'scheduled' or status == 'deferred' then
    return redis.call('ZSCORE', 'rq:' .. status .. ':' .. queue, id) ~= false
  end
  return status == 'started' and is_leased(id, queue)
end

for at = 2, #ARGV, 2 do
  local id, queue = ARGV[at], ARGV[at + 1]
  local job = redis.call('HMGET', 'rq:job:' .. id, 'status', 'meta')
  local status = job[1] or ''
  answers[#answers + 1] = status
  answers[#answers + 1] = is_live(id, queue, status) and 1 or 0
  answers[#answers + 1] = job[2] or ''
end
return answers
