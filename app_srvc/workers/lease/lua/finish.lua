-- End many jobs of one claim, as RQ does: registries, results, lives, the worker's counters.
--
-- KEYS 1 rq:wip:Q  zset  "J:E" is removed   2 rq:finished:Q   3 rq:failed:Q  zsets  J with its last second
--      4 rq:worker:W  hash  counters; current_job, if that job is deleted   5 app:claim:E  list  removed when the claim is over
--      6 app:result:E  stream  only while the script runs
-- and for each job J: rq:job:J  hash   rq:execution:J:E  hash   rq:executions:J  zset
--      rq:job:J:dependents  set  looked at   rq:results:J  stream  one more result
--      rq:job::J:dependencies  set  lives and goes with J   rq:group:G  set  loses a J that goes
--
-- ARGV 1 E   2 W   3 "1" if the claim is over with these   then eight for each job: J; "s", "f", or "F" for a failure that is final whatever depends on it; when it began and ended, as RQ writes times, and
--      as seconds; its life in seconds, -1 for ever; its result or error, "" for none
-- Returns {lost, left}: the ids whose lease was taken away, which are as they were, and those that others
-- depend on, which are still in hand: RQ's own code has to end them.

local DEFAULT_LIFE_S, LONGEST_LIFE_S = 500, 10000000000
local wip, token, name = KEYS[1], ARGV[1], ARGV[2]
local now = tonumber(redis.call('TIME')[1])
local count = (#ARGV - 3) / 8
local entries, dependents, dependencies, lost, left = {}, {}, {}, {}, {}
for at = 0, count - 1 do
  local id = ARGV[4 + 8 * at]
  entries[#entries + 1] = id .. ':' .. token
  dependents[#dependents + 1] = 'rq:job:' .. id .. ':dependents'
  dependencies[#dependencies + 1] = 'rq:job::' .. id .. ':dependencies'
end
local scores = count > 0 and redis.pcall('ZMSCORE', wip, unpack(entries)) or {}
local has_dependents = count > 0 and redis.call('EXISTS', unpack(dependents)) > 0
local has_dependencies = count > 0 and redis.call('EXISTS', unpack(dependencies)) > 0

-- What nobody can read must not hold up the ends of all others.
local function life_of(text)
  local life_s = tonumber(text)
  if not life_s or life_s ~= life_s then return DEFAULT_LIFE_S end
  return math.floor(math.max(-1, math.min(life_s, LONGEST_LIFE_S)))
end

-- The score in a registry; written out once for each length of life.
local seconds = {}
local function last_second(outcome, life_s)
  if life_s < 0 then return outcome == 's' and '+inf' or '-1' end
  local text = seconds[life_s]
  if not text then
    text = string.format('%d', now + life_s)
    seconds[life_s] = text
  end
  return text
end

-- As RQ's `Result` is written. Not a call more than needed: this is done for every job.
local function add_result(key, type, outcome, began, ended, payload)
  if payload == '' then
    return redis.pcall('XADD', key, '*', 'type', type, 'worker_name', name, 'execution_id', token,
      'execution_started_at', began, 'execution_ended_at', ended)
  end
  return redis.pcall('XADD', key, '*', 'type', type, 'worker_name', name,
    outcome == 's' and 'return_value' or 'exc_string', payload, 'execution_id', token,
    'execution_started_at', began, 'execution_ended_at', ended)
end

local function live(key, life_s)
  if life_s > 0 then redis.call('EXPIRE', key, life_s) else redis.call('PERSIST', key) end
end

-- The first write: with Redis' memory full, the ones after it are allowed, as they give lives to keys.
local new_result, new_life_s = KEYS[6], nil
redis.call('DEL', new_result)
local ended, gone, finished, failed = {}, {}, {}, {}
local successes, failures, worked, current = 0, 0, 0, nil
for at = 0, count - 1 do
  local base = 4 + 8 * at
  local id, outcome = ARGV[base], ARGV[base + 1]
  local key = 'rq:job:' .. id
  if not scores[at + 1] then
    lost[#lost + 1] = id
  elseif has_dependents and outcome ~= 'F' and redis.call('EXISTS', dependents[at + 1]) == 1 then
    left[#left + 1] = id
  else
    ended[#ended + 1] = entries[at + 1]
    gone[#gone + 1] = 'rq:execution:' .. entries[at + 1]
    gone[#gone + 1] = 'rq:executions:' .. id
    local life_s, payload = life_of(ARGV[base + 6]), ARGV[base + 7]
    worked = worked + math.max(0, tonumber(ARGV[base + 5]) - tonumber(ARGV[base + 4]))
    if outcome == 's' then successes = successes + 1 else failures = failures + 1 end
    local added = life_s ~= 0 and redis.pcall('HSET', key, 'status',
      outcome == 's' and 'finished' or 'failed', 'started_at', ARGV[base + 2], 'ended_at', ARGV[base + 3])
    if life_s == 0 then
      gone[#gone + 1] = key
      gone[#gone + 1] = dependencies[at + 1]
      -- RQ's tools look the current job up, and end if it is not there.
      if current == nil then current = redis.pcall('HGET', KEYS[4], 'current_job') end
      if current == id then redis.call('HDEL', KEYS[4], 'current_job') end
      local group = redis.pcall('HGET', key, 'group_id')
      if type(group) == 'string' and group ~= '' then redis.pcall('SREM', 'rq:group:' .. group, id) end
    elseif type(added) == 'table' then
      -- Refused: all of it, before anything was written. Or somebody put something else there.
      if not string.find(added.err, 'WRONGTYPE', 1, true) then return added end
    elseif added == 3 then
      -- There was no hash: somebody deleted the job while it ran.
      gone[#gone + 1] = key
    else
      local registry = outcome == 's' and finished or failed
      registry[#registry + 1] = last_second(outcome, life_s)
      registry[#registry + 1] = id
      local results, type = 'rq:results:' .. id, outcome == 's' and '1' or '2'
      -- A new stream reserves 4 kB for entries to come; its copy takes only what it needs, and its life.
      add_result(new_result, type, outcome, ARGV[base + 4], ARGV[base + 5], payload)
      if life_s ~= new_life_s then
        live(new_result, life_s)
        new_life_s = life_s
      end
      local copied = redis.pcall('COPY', new_result, results)
      redis.call('XTRIM', new_result, 'MAXLEN', 0)
      if copied ~= 1 then
        add_result(results, type, outcome, ARGV[base + 4], ARGV[base + 5], payload)
        redis.pcall('XTRIM', results, 'MAXLEN', 10)
        live(results, life_s)
      end
      if life_s > 0 then
        redis.call('EXPIRE', key, life_s)
        if has_dependencies then redis.call('EXPIRE', dependencies[at + 1], life_s) end
      end
    end
  end
end

redis.call('DEL', new_result)
if #ended > 0 then redis.call('ZREM', wip, unpack(ended)) end
if #gone > 0 then redis.call('DEL', unpack(gone)) end
if #finished > 0 then redis.pcall('ZADD', KEYS[2], unpack(finished)) end
if #failed > 0 then redis.pcall('ZADD', KEYS[3], unpack(failed)) end
if #ended > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  if successes > 0 then redis.pcall('HINCRBY', KEYS[4], 'successful_job_count', successes) end
  if failures > 0 then redis.pcall('HINCRBY', KEYS[4], 'failed_job_count', failures) end
  redis.pcall('HINCRBYFLOAT', KEYS[4], 'total_working_time', worked)
end
if ARGV[3] == '1' and #left == 0 then redis.call('DEL', KEYS[5]) end
return {lost, left}
