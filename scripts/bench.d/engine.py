"""The engine's own HTTP API, as bare as it goes: what a build and a push cost without Dockwright."""

import http.client
import io
import json
import os
import socket
import tarfile
from urllib.parse import quote, urlsplit

from service import Failed

# `{}` in base64: no credentials.
NOBODY = "e30="


class Engine(http.client.HTTPConnection):
    """One kept connection to the engine of `DOCKER_HOST`, or of the usual socket."""

    def __init__(self):
        super().__init__("engine", timeout=120)
        self.url = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")

    def connect(self):
        if self.url.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(self.url.path)
        else:
            self.sock = socket.create_connection((self.url.hostname, self.url.port or 2375))

    def ask(self, method, path, body=None, headers=None):
        """The answer's lines, each JSON. An error in the stream is one of the call."""
        self.request(method, path, body, headers or {})
        answer = self.getresponse()
        text = answer.read()
        lines = [json.loads(line) for line in text.splitlines() if line.strip()] if text else []
        wrong = [line["error"] for line in lines if isinstance(line, dict) and "error" in line]
        if answer.status >= 300 or wrong:
            raise Failed(f"{method} {path}: {answer.status} {wrong or text.decode(errors='replace')}")
        return lines

    def build(self, dockerfile, image, builder):
        version = 2 if builder == "buildkit" else 1
        path = f"/build?version={version}&t={quote(image)}&rm=1&forcerm=1"
        self.ask("POST", path, context(dockerfile), {"Content-Type": "application/x-tar"})

    def push(self, image):
        repository, tag = image.rsplit(":", 1)
        self.ask("POST", f"/images/{repository}/push?tag={tag}", headers={"X-Registry-Auth": NOBODY})

    def remove(self, image):
        self.ask("DELETE", f"/images/{image}")


def context(dockerfile):
    buffer, text = io.BytesIO(), dockerfile.encode()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()
