-- A registration with a login of its own in each request.
local thread_number = 0
function setup(thread)
  thread:set("thread_id", thread_number)
  thread_number = thread_number + 1
end
function init(args)
  count = 0
  stamp = os.time()
end
function request()
  count = count + 1
  local login = "u" .. stamp .. "t" .. thread_id .. "n" .. count
  local body = '{"szFirstName":"Olena","szLastName":"Koval","szLogin":"' .. login ..
    '","szEmail":"' .. login .. '@example.org","szPhone":"+380441234567"}'
  return wrk.format("POST", "/userregres/", {["Content-Type"] = "application/json"}, body)
end
function done(summary, latency, requests)
  io.write(string.format('{"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
