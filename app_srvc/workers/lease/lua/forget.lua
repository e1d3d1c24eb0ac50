-- Take dead workers out of a set of workers: those whose hash is gone, since nobody renewed its life.
--
-- KEYS 1 rq:workers or rq:workers:Q  set  names of hashes rq:worker:W, which are looked at
--
-- ARGV 1 how many are looked at, at most: any, so that every one has its turn
-- Returns how many were taken out.

local dead = {}
for _, worker in ipairs(redis.call('SRANDMEMBER', KEYS[1], ARGV[1])) do
  if redis.call('EXISTS', worker) == 0 then dead[#dead + 1] = worker end
end
if #dead > 0 then redis.call('SREM', KEYS[1], unpack(dead)) end
return #dead
