-- Put the jobs whose lease has ended back at the head of their queue: whoever had them is dead.
--
-- KEYS 1 rq:wip:Q  zset  entries whose lease is over are removed   2 rq:queue:Q  list  3 rq:queues  set
-- and for each entry "J:E": rq:execution:J:E  hash  says whether J had begun
--      rq:job:J  hash  status and life; `suspect`, `rescues`   rq:executions:J  zset
--
-- ARGV 1 how many at most
-- Returns {J, rescues, J, rescues…}; rescues is how often J had begun when its worker died, and "suspect" if
-- nobody knows whether it had: it is not counted, and runs alone from now on, so that it will be known.

local wip, queue = KEYS[1], KEYS[2]
-- An error here, before anything is taken, if the queue is something else.
redis.call('LLEN', queue)
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
local rescued, back = {}, {}

local function lease_end(score)
  score = tonumber(score)
  return score > now + FAR_S / 2 and score - FAR_S or score
end

local function is_running(id)
  local others = redis.pcall('ZRANGE', 'rq:executions:' .. id, 0, -1)
  if others.err then return false end
  for _, other in ipairs(others) do
    local score = redis.call('ZSCORE', wip, id .. ':' .. other)
    if score and lease_end(score) > now then return true end
  end
  return false
end

local function settle(entry)
  local id, token = string.match(entry, '^(.*):([^:]*)$')
  redis.call('ZREM', wip, entry)
  if id then
    local job = 'rq:job:' .. id
    local has_begun = redis.pcall('HEXISTS', 'rq:execution:' .. entry, 'begun') == 1
    redis.call('DEL', 'rq:execution:' .. entry)
    redis.pcall('ZREM', 'rq:executions:' .. id, token)
    local status, ttl = unpack(redis.pcall('HMGET', job, 'status', 'ttl'))
    -- Whatever has another status was ended or moved by somebody, and is not in hand.
    if status == 'started' and not is_running(id) then
      local count = 'suspect'
      redis.call('HSET', job, 'status', 'queued', 'suspect', 1)
      if has_begun then
        count = redis.pcall('HINCRBY', job, 'rescues', 1)
        if type(count) ~= 'number' then
          count = 1
          redis.call('HSET', job, 'rescues', count)
        end
      end
      -- The time that it may wait begins anew: the claim has ended it.
      if ttl and (tonumber(ttl) or 0) > 0 then redis.pcall('EXPIRE', job, ttl) end
      rescued[#rescued + 1] = id
      rescued[#rescued + 1] = count
      back[#back + 1] = id
    end
  end
end

-- Of leases like ours, and of RQ's own workers.
for _, from in ipairs({now + FAR_S / 2, '-inf'}) do
  local to = from == '-inf' and now or now + FAR_S
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', wip, from, to, 'LIMIT', 0, ARGV[1])) do
    settle(entry)
  end
end
for at = #back, 1, -1 do redis.call('LPUSH', queue, back[at]) end
if #back > 0 then redis.call('SADD', KEYS[3], queue) end
return rescued
