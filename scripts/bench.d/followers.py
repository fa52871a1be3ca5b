"""Many readers of one log as it grows, and how far they are behind it."""

import json
import re
import resource
import select
import socket
import time
import uuid
from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from itertools import accumulate

from service import Failed, Service
from table import Row, median, percentile

WANTED = 1000
# Beside the followers' own: the interpreter's, and a reserve.
OTHER_DESCRIPTORS = 100
LINES_PER_SECOND = 5
# A line says when it was written: seconds since the machine's start, which inside a container are those of the host.
LINE = re.compile(rb"tick (\d+) (\d+\.\d+)")
EVENT = re.compile(rb"event: log\ndata: (\{.*\})\n")


def followers(bench):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    many = min(WANTED, limit - OTHER_DESCRIPTORS)
    with Service(bench.binary, bench.work) as service:
        service.until_idle()
        alone = follow(service, 1, bench.pick(4, 8))
        crowd = follow(service, many, bench.pick(10, 25))
    for what, index in ((f"{many:,} followers of one log: from the line's `at` (p50 / p99)", 0), ("the same, from the echo inside the build", 1)):
        lags, few = [lag[index] for lag in crowd], [lag[index] for lag in alone]
        p99 = percentile(lags, 0.99)
        yield Row(
            what,
            f"{median(lags):.0f} / {p99:.0f} ms",
            f"{median(few):.0f} / {percentile(few, 0.99):.0f} ms: one follower",
            p99 / percentile(few, 0.99),
            "p99 ≤ 250 ms",
            p99 <= 250 and many == WANTED,
        )


def follow(service, count, seconds):
    """Pairs of lags in milliseconds, one a follower and line: since the event's `at`, and since the line was written."""
    connection = service.connect()
    text = "FROM busybox:latest\n"
    text += f"RUN echo {uuid.uuid4().hex}; i=0; while [ $i -lt {seconds * LINES_PER_SECOND} ]; do "
    text += f"read up rest < /proc/uptime; echo tick $i $up; i=$((i+1)); sleep {1 / LINES_PER_SECOND}; done\n"
    build = service.submit(connection, text, push="false")
    crowd = Crowd(service, build["id"], count)
    ready = time.clock_gettime(time.CLOCK_BOOTTIME)
    crowd.read_all(time.monotonic() + seconds + 60)
    # The first connection has been idle for longer than the service keeps one.
    connection = service.connect()
    service.ended(connection, build, "built")
    lags = crowd.lags(ready)
    service.ask(connection, "DELETE", f"/api/v1/builds/{build['id']}")
    if len(lags) < count * LINES_PER_SECOND:
        raise Failed(f"only {len(lags)} lines reached {count} followers")
    return lags


class Crowd:
    """Followers of one build, all in this thread; what they receive is only noted while it comes, and looked at afterwards."""

    def __init__(self, service, build, count):
        request = f"GET /api/v1/builds/{build}/logs HTTP/1.1\r\nHost: {service.address}\r\nAuthorization: Bearer {service.token}\r\n"
        request += "Accept: text/event-stream\r\nConnection: close\r\n\r\n"
        self.sockets, self.received = {}, defaultdict(list)
        self.poll = select.epoll()
        for _ in range(count):
            follower = socket.create_connection(("127.0.0.1", service.port), timeout=30)
            follower.sendall(request.encode())
            follower.setblocking(False)
            self.sockets[follower.fileno()] = follower
            self.poll.register(follower.fileno(), select.EPOLLIN)
        # The clocks of events and of lines, read together.
        self.boot_to_wall = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def read_all(self, deadline):
        while self.sockets:
            if time.monotonic() > deadline:
                raise Failed(f"{len(self.sockets)} followers never saw the end of the log")
            for number, _ in self.poll.poll(1):
                piece = self.sockets[number].recv(1 << 18)
                self.received[number].append((time.time(), piece))
                if not piece:
                    self.poll.unregister(number)
                    self.sockets.pop(number).close()

    def lags(self, ready):
        found = []
        for pieces in self.received.values():
            ends = list(accumulate(len(piece) for _, piece in pieces))
            for event in EVENT.finditer(b"".join(piece for _, piece in pieces)):
                # It has arrived with the piece that holds its last byte.
                arrived = pieces[bisect_left(ends, event.end())][0]
                line = json.loads(event[1])
                tick = LINE.search(line["text"].encode())
                # What was written before all were there is history to some of them.
                if tick and float(tick[2]) > ready:
                    at = datetime.fromisoformat(line["at"]).timestamp()
                    found.append(((arrived - at) * 1e3, (arrived - self.boot_to_wall - float(tick[2])) * 1e3))
        return found
