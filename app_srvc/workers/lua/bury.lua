-- Remove executions whose lease has ended from the started registry, after their jobs were settled.
--
-- KEYS 1 rq:wip:Q  zset  entries are removed, unless their lease was renewed meanwhile
-- and for the job J of each: rq:job:J  hash  gets a life, if settling has left it as it was
--
-- ARGV 1 life of such a job, seconds   2… the entries "J:E", as they stand in the registry
-- Returns how many were removed.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
-- A lease's second is written so much later: RQ's tools fail a job whose second has passed.
local FAR_S = 1073741824
local removed = 0

local function lease_end(score)
  score = tonumber(score)
  return score > now + FAR_S / 2 and score - FAR_S or score
end

for at = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
  if score and lease_end(score) <= now then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[at])
    local job = 'rq:job:' .. string.gsub(ARGV[at], ':[^:]*$', '')
    local status = redis.pcall('HGET', job, 'status')
    if status == 'started' then redis.call('EXPIRE', job, ARGV[1]) end
  end
end
return removed
