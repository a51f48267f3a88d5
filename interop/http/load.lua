-- For wrk: counts replies by status and by the reason a sidecar gave. `wrk -s load.lua URL -- METHOD`.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  wrk.method = args[1] or "GET"
  if wrk.method == "POST" then wrk.body = "x=1" end
  replies = {}
end

function response(status, headers)
  local reason = "none"
  if status ~= 200 then
    for name, value in pairs(headers) do
      if string.lower(name) == "x-raddle-reason" then reason = value end
    end
  end
  local kind = status .. " " .. reason
  replies[kind] = (replies[kind] or 0) + 1
end

function done(summary)
  local all = {}
  for _, thread in ipairs(threads) do
    for kind, count in pairs(thread:get("replies")) do all[kind] = (all[kind] or 0) + count end
  end
  for kind, count in pairs(all) do io.write(string.format("REPLIES %d %s\n", count, kind)) end
  local errors = summary.errors
  io.write(string.format("ERRORS connect %d, read %d, write %d, timeout %d\n",
    errors.connect, errors.read, errors.write, errors.timeout))
end
