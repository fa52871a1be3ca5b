-- Asks for many builds in turn, so that nothing is measured but the reading of one.
local paths = {}
for id in io.lines(os.getenv("IDS")) do
  paths[#paths + 1] = wrk.format("GET", "/api/v1/builds/" .. id, { Host = os.getenv("HOST"), Authorization = "Bearer " .. os.getenv("TOKEN") })
end
local next_path = 0

function request()
  next_path = next_path % #paths + 1
  return paths[next_path]
end

dofile(os.getenv("REPORT"))
