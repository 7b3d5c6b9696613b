-- What wrk asks, and what it saw as one line of JSON; its own text gives no p99.9 and rounds the rest.
wrk.method = os.getenv("BENCH_METHOD") or "GET"
wrk.body = os.getenv("BENCH_BODY")
if wrk.body then
   wrk.headers["content-type"] = "application/json"
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'saw {"requests": %d, "seconds": %f, "failed": %d}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout
   ))
end
