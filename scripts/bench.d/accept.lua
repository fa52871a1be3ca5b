-- Every request is an upload of one small Dockerfile.
local boundary = "dockwright-bench"
local dockerfile = "FROM busybox:latest\nRUN echo hello\n"
dockerfile = dockerfile .. "# " .. string.rep("x", 200 - #dockerfile - 3) .. "\n"

local function part(disposition, value)
  return "--" .. boundary .. "\r\nContent-Disposition: form-data; " .. disposition .. "\r\n\r\n" .. value .. "\r\n"
end

wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN")
wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
wrk.body = part('name="file"; filename="Dockerfile"', dockerfile)
  .. part('name="image"', "127.0.0.1:5000/bench/accept:1")
  .. "--" .. boundary .. "--\r\n"

dofile(os.getenv("REPORT"))
