"""`dockwright build` of a folder, in pieces, against `tar | curl` of the same folder through the same counted connection."""

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from service import AWAY, Service
from table import Row, timed

MIB = 1 << 20
# What the second upload of a folder with one changed file may move, in bytes.
GOAL = 1_000_000


class Counted:
    """A port in front of the service's own that counts what goes through it, both ways."""

    def __init__(self, port):
        self.target, self.bytes, self.lock = port, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one, other):
        buffer = memoryview(bytearray(MIB))
        try:
            while read := one.recv_into(buffer):
                other.sendall(buffer[:read])
                with self.lock:
                    self.bytes += read
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def of(self, work):
        """Seconds and bytes of some work."""
        before = self.bytes
        seconds, _ = timed(work)
        return seconds, self.bytes - before

    def close(self):
        self.listener.close()


def fill(folder, files, size):
    """Noise, which nothing makes smaller, in folders of a hundred files."""
    with open("/dev/urandom", "rb") as noise:
        for number in range(files):
            place = folder / f"d{number // 100}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"f{number}").write_bytes(noise.read(size))
    # Of all that is sent little is built: how the engine copies is not measured here.
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    os.sync()


def dockwright(bench, service, port, folder):
    """It asks for the build, whose id it answers, and does not wait for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKWRIGHT_")}
    environment |= {"DOCKWRIGHT_URL": f"http://127.0.0.1:{port}", "DOCKWRIGHT_TOKEN": service.token}
    environment["XDG_CACHE_HOME"] = str(bench.work / "cache")
    command = [bench.binary, "build", str(folder), "--no-push", "--detach"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout.strip()


def change(folder):
    changed = folder / "d0" / "f0"
    changed.write_bytes(os.urandom(changed.stat().st_size // 2 + 1))


def tar_and_curl(service, port, folder):
    curl = ["curl", "-sSf", "-H", f"Authorization: Bearer {service.token}", "-F", "push=false", "-F", "context=@/dev/stdin;filename=context.tar"]
    with subprocess.Popen(["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
        command = [*curl, f"http://127.0.0.1:{port}/api/v1/builds"]
        subprocess.run(command, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)


def pieces(bench):
    sizes = [("20,000 files of 2 KiB", 20_000, 2048), ("500 MB in 20,000 files", 20_000, 25_000), ("1 GiB in 1,024 files", 1024, MIB)]
    for name, files, size in sizes[: bench.pick(1, 3)]:
        folder = bench.work / "folder"
        fill(folder, files, size)
        try:
            yield from measured(bench, name, folder)
            yield begun(bench, name, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(bench.work / "cache", ignore_errors=True)


def measured(bench, name, folder: Path):
    flags = ["--max-upload", "2g", "--max-context", "2g"]
    with Service(bench.binary, bench.work, engine=AWAY, flags=flags) as service:
        counted = Counted(service.port)
        try:
            for which in ("first upload", "second upload", "one file changed"):
                if which == "one file changed":
                    change(folder)
                bare_time, bare_bytes = counted.of(lambda: tar_and_curl(service, counted.port, folder))
                our_time, our_bytes = counted.of(lambda: dockwright(bench, service, counted.port, folder))
                again = which == "one file changed"
                yield Row(
                    f"{name}, {which}: bytes on the wire",
                    f"{our_bytes:,} B",
                    f"{bare_bytes:,} B: tar | curl",
                    our_bytes / bare_bytes,
                    "< 1 MB" if again else "–",
                    our_bytes < GOAL if again else None,
                )
                yield Row(
                    f"{name}, {which}: until it is accepted",
                    f"{our_time:.2f} s",
                    f"{bare_time:.2f} s: tar | curl",
                    our_time / bare_time,
                    "≤ 1 s" if again else "–",
                    our_time <= 1 if again else None,
                )
        finally:
            counted.close()


def begun(bench, name, folder: Path):
    """From the command to the state `building`, with the engine there."""
    with Service(bench.binary, bench.work, flags=["--max-upload", "2g", "--max-context", "2g"]) as service:
        service.until_idle()
        connection = service.connect()
        first = dockwright(bench, service, service.port, folder)
        service.ended(connection, service.ask(connection, "GET", f"/api/v1/builds/{first}"), "built")
        change(folder)

        def until_building():
            build = service.ask(connection, "GET", f"/api/v1/builds/{dockwright(bench, service, service.port, folder)}")
            while build["state"] == "queued":
                build = service.ask(connection, "GET", f"/api/v1/builds/{build['id']}?wait=5")
            return build

        seconds, second = timed(until_building)
        service.ended(connection, second, "built")
        for build in (first, second["id"]):
            service.ask(connection, "DELETE", f"/api/v1/builds/{build}")
    return Row(f"{name}, one file changed: until it is building", f"{seconds:.2f} s", "–", None, "≤ 1 s", seconds <= 1)
