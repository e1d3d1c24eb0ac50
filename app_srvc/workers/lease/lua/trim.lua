-- Remove entries whose second has passed from one of RQ's registries, as RQ's own `cleanup` does.
--
-- KEYS 1 rq:finished:Q or rq:failed:Q  zset  J with its last second; -1 and +inf are for ever, and stay
--
-- ARGV 1 how many at most
-- Returns how many were removed.

local clock = redis.call('TIME')
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '(' .. clock[1], 'LIMIT', 0, ARGV[1])
if #ids > 0 then redis.call('ZREM', KEYS[1], unpack(ids)) end
return #ids
