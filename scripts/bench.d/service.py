"""A dockwright of one's own: started on a free port with an empty data folder, and stopped again."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

AWAY = "unix:///nowhere.sock"
START_LIMIT = 30


class Failed(Exception):
    """Something broke; a missed goal is none of these."""


class Service:
    """Use it in a `with`. `engine=AWAY` leaves only the intake to work."""

    def __init__(self, binary, work, *, engine=None, redis=None, flags=()):
        self.folder = Path(tempfile.mkdtemp(prefix="service.", dir=work))
        self.redis, self.prefix = redis, f"bench-{uuid.uuid4().hex}"
        command = [binary, "serve", "--data-dir", str(self.folder / "data"), "--listen", "127.0.0.1:0", *flags]
        command += ["--engine", engine] if engine else []
        command += ["--store", f"redis://{redis}/", "--store-prefix", self.prefix] if redis else []
        self.log = self.folder / "log"
        # Nothing of the caller's own settings is measured.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKWRIGHT_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            self.port = self._wait_for_port()
            self.token = (self.folder / "data" / "admin-token").read_text().strip()
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_for_port(self):
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", self.log.read_text(errors="replace"))
            if found:
                return int(found[1])
            time.sleep(0.02)
        raise Failed(f"dockwright did not start:\n{self.log_tail()}")

    def log_tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.redis:
            forget_keys(self.redis, self.prefix)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def headers(self, **more):
        return {"Authorization": f"Bearer {self.token}", **more}

    def ask(self, connection, method, path, body=None, **headers):
        """The answer's JSON. Every request of a run uses the same connection, as a program would."""
        connection.request(method, path, body, self.headers(**headers))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def submit(self, connection, dockerfile, **fields):
        body, content_type = form(dockerfile, fields)
        return self.ask(connection, "POST", "/api/v1/builds", body, **{"Content-Type": content_type})

    def ended(self, connection, build, state):
        """Waits for the end of a build, which must be this state."""
        while build["finished_at"] is None:
            build = self.ask(connection, "GET", f"/api/v1/builds/{build['id']}?wait=60")
        if build["state"] != state:
            raise Failed(f"a build ended as {build['state']}, not {state}: {build['error']}")
        return build

    def rss(self):
        """Resident memory in bytes."""
        return rss(self.process.pid)

    def until_idle(self):
        """Waits until the worker has shown that its engine answers, so that the first build is like the others."""
        connection, deadline = self.connect(), time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                return
            time.sleep(0.1)
        raise Failed(f"dockwright did not become ready:\n{self.log_tail()}")


def form(dockerfile, fields):
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="Dockerfile"\r\n\r\n{dockerfile}\r\n')
    return "".join(parts).encode() + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def rss(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def forget_keys(redis, prefix):
    host, port = redis.rsplit(":", 1)
    client = ["redis-cli", "-h", host, "-p", port]
    keys = subprocess.run([*client, "--scan", "--pattern", f"*{prefix}*"], capture_output=True, text=True, check=False).stdout.split()
    for start in range(0, len(keys), 5000):
        subprocess.run([*client, "unlink", *keys[start : start + 5000]], stdout=subprocess.DEVNULL, check=False)
