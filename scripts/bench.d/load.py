"""Rows under load: durable accepts and reads of a status, by wrk with 64 clients."""

import json
import os
import re
import subprocess
from pathlib import Path

from builds import fsync_times
from service import AWAY, Failed, Service
from table import Row, median

CLIENTS = 64
POLLED = 1000
HERE = Path(__file__).parent


def wrk(service, path, seconds, script=None, **variables):
    """One run of wrk; its numbers, see report.lua."""
    environment = os.environ | {"REPORT": str(HERE / "report.lua"), "TOKEN": service.token, "HOST": service.address} | variables
    command = ["wrk", "--threads", "1", "--connections", str(CLIENTS), "--duration", f"{seconds}s", "--timeout", "10s"]
    command += ["--script", str(HERE / (script or "report.lua")), f"http://{service.address}{path}"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"^JSON (.*)$", told.stdout, re.MULTILINE)
    if told.returncode or not found:
        raise Failed(f"wrk failed: {told.stdout}{told.stderr}")
    numbers = json.loads(found[1])
    if numbers["refused"] or numbers["broken"]:
        raise Failed(f"{path}: {numbers['refused']} answers were errors, {numbers['broken']} connections broke\n{service.log_tail()}")
    return numbers


def rate(numbers):
    return numbers["requests"] / numbers["seconds"]


def accept(bench):
    """A 200-byte Dockerfile, accepted durably, over and over; the engine is away, so that nothing else is measured."""
    bare = 1e3 / median(fsync_times(bench.work))
    for name, redis, _ in bench.stores(0, 0):
        with Service(bench.binary, bench.work, engine=AWAY, redis=redis) as service:
            numbers = wrk(service, "/api/v1/builds", bench.pick(6, 20), "accept.lua")
            bench.after_accept = (numbers["requests"], service.rss())
            must_hold(service, numbers["requests"])
        p99 = numbers["p99"] / 1e3
        yield Row(
            f"durable accepts, {name}, {CLIENTS} clients ({numbers['requests']} in all)",
            f"{rate(numbers):,.0f} /s, p50 {numbers['p50'] / 1e3:.1f} ms, p99 {p99:.1f} ms",
            f"{bare:,.0f} /s: writes of 4 KiB with fsync, one by one",
            rate(numbers) / bare,
            "≥ 6,000 /s, p99 ≤ 25 ms",
            rate(numbers) >= 6000 and p99 <= 25,
        )


def must_hold(service, accepted):
    """What was acknowledged is there: the last build of the queue knows how many go before it."""
    newest = service.ask(service.connect(), "GET", "/api/v1/builds?limit=1")["items"][0]
    if newest["queue"]["position"] < accepted - 1:
        raise Failed(f"{accepted} builds were acknowledged, but the last one stands at {newest['queue']['position']}")


def status(bench):
    """GET of one build, of many that wait in the queue, in turn."""
    for name, redis, _ in bench.stores(0, 0):
        with Service(bench.binary, bench.work, engine=AWAY, redis=redis) as service:
            connection = service.connect()
            ids = [service.submit(connection, "FROM busybox:latest\n", push="false")["id"] for _ in range(POLLED)]
            listed = bench.work / "ids"
            listed.write_text("\n".join(ids) + "\n")
            seconds = bench.pick(5, 15)
            bare = wrk(service, "/healthz", seconds)
            numbers = wrk(service, "/", seconds, "status.lua", IDS=str(listed))
            listed.unlink()
        yield Row(
            f"status by id, {name}, {CLIENTS} clients, {POLLED:,} builds waiting",
            f"{rate(numbers):,.0f} /s, p99 {numbers['p99'] / 1e3:.1f} ms",
            f"{rate(bare):,.0f} /s: /healthz of the same server",
            rate(numbers) / rate(bare),
            "≥ 20,000 /s",
            rate(numbers) >= 20000,
        )
