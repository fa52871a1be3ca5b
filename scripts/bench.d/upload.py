"""A context of 1 GiB, accepted, against a copy of the same file that is as durable."""

import io
import os
import socket
import subprocess
import tarfile

from service import AWAY, Failed, Service
from table import Row, median, timed

SIZE = 1 << 30
BLOCK = 1 << 20
BOUNDARY = "dockwright-bench"


def context(bench):
    archive, copy = bench.work / "context.tar", bench.work / "copy.tar"
    try:
        write_archive(archive)
        # Both read it from memory.
        subprocess.run(["cat", str(archive)], stdout=subprocess.DEVNULL, check=True)
        ours, bare = [], []
        with Service(bench.binary, bench.work, engine=AWAY, flags=["--max-upload", "2g", "--max-context", "2g"]) as service:
            for turn in range(bench.pick(2, 5)):
                pair = [lambda: ours.append(send(service, archive)), lambda: bare.append(durable_copy(archive, copy))]
                for run in reversed(pair) if turn % 2 else pair:
                    os.sync()
                    run()
    finally:
        archive.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
    speed = median(bare) / median(ours)
    yield Row(
        f"a context of 1 GiB accepted (median of {len(ours)})",
        f"{shown(ours)}",
        f"{shown(bare)}: dd of the file, with fsync",
        speed,
        "≥ 0.80× the speed",
        speed >= 0.8,
    )


def shown(times):
    return f"{SIZE / median(times) / BLOCK:,.0f} MiB/s"


def write_archive(path):
    """A Dockerfile and bytes that no file system can compress."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        text = b"FROM scratch\nCOPY data /data\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        member = tarfile.TarInfo("data")
        member.size = SIZE
        with open("/dev/urandom", "rb") as noise:
            tar.addfile(member, noise)


def durable_copy(source, target):
    """Seconds."""
    target.unlink(missing_ok=True)
    seconds, _ = timed(lambda: subprocess.run(["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none"], check=True))
    target.unlink()
    return seconds


def send(service, archive):
    """Seconds from the first byte to the answer. The build is deleted again."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="push"\r\n\r\nfalse\r\n--{BOUNDARY}\r\n'
    head += 'Content-Disposition: form-data; name="context"; filename="context.tar"\r\n\r\n'
    tail = f"\r\n--{BOUNDARY}--\r\n"
    length = len(head) + archive.stat().st_size + len(tail)
    request = f"POST /api/v1/builds HTTP/1.1\r\nHost: {service.address}\r\nAuthorization: Bearer {service.token}\r\n"
    request += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"

    def run():
        with socket.create_connection(("127.0.0.1", service.port), timeout=120) as connection, archive.open("rb") as file:
            try:
                connection.sendall((request + head).encode())
                connection.sendfile(file)
                connection.sendall(tail.encode())
            except BrokenPipeError:
                # Refused before its end; the answer says why.
                pass
            return b"".join(iter(lambda: connection.recv(65536), b""))

    seconds, answer = timed(run)
    if not answer.startswith(b"HTTP/1.1 202"):
        raise Failed(f"the context was refused: {answer[:600].decode(errors='replace')}")
    connection = service.connect()
    newest = service.ask(connection, "GET", "/api/v1/builds?limit=1")["items"][0]
    service.ask(connection, "DELETE", f"/api/v1/builds/{newest['id']}")
    return seconds
