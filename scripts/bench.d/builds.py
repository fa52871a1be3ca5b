"""Rows that need the engine: a build and its push against the bare engine, and how fast an idle worker picks up."""

import os
import uuid
from datetime import datetime

from engine import Engine
from service import Service
from table import Row, median, percentile, timed

FSYNCS = 200


def small():
    """The worst case: one step and one new layer of 4 MiB, all over before much can be compared."""
    mark = uuid.uuid4().hex
    return f"FROM busybox:latest\nRUN echo {mark} > /mark && dd if=/dev/urandom of=/data bs=1M count=4 2>/dev/null\n"


def ordinary():
    """What people build: some steps that work for a while, and layers of 24 MiB in all. Still far shorter than most."""
    mark = uuid.uuid4().hex
    steps = "".join(
        f"RUN dd if=/dev/urandom of=/data{step} bs=1M count=4 2>/dev/null && sha512sum /data{step} && gzip -9 -k /data{step}\n"
        for step in range(3)
    )
    return f"FROM busybox:latest\nLABEL bench={mark}\nRUN echo {mark} > /mark\n{steps}CMD cat /mark\n"


def publish(bench):
    """Submit → published against build + push on the engine itself, in turns; which goes first alternates."""
    yield compare(bench, "a small build", small, bench.pick(10, 30))
    if not bench.quick:
        yield compare(bench, "an ordinary build", ordinary, 10)


def compare(bench, name, dockerfile, pairs):
    repository = f"{bench.registry}/bench/{uuid.uuid4().hex[:12]}"
    engine = Engine()
    with Service(bench.binary, bench.work) as service:
        service.until_idle()
        # The first pair warms both repositories up, and tells which builder the service chose.
        _, builder = through_service(service, dockerfile(), f"{repository}-service:0")
        on_engine(engine, dockerfile(), f"{repository}-direct:0", builder)
        ours, bare = [], []
        for turn in range(1, pairs + 1):
            pair = [
                lambda: ours.append(through_service(service, dockerfile(), f"{repository}-service:{turn}")[0]),
                lambda: bare.append(on_engine(engine, dockerfile(), f"{repository}-direct:{turn}", builder)),
            ]
            for run in pair if turn % 2 else reversed(pair):
                run()
    ratio = median(ours) / median(bare)
    return Row(
        f"submit → published, {name} ({builder}, median of {len(ours)})",
        f"{median(ours) * 1e3:,.0f} ms",
        f"{median(bare) * 1e3:,.0f} ms: build and push by the bare engine API",
        ratio,
        "≤ 1.05×",
        ratio <= 1.05,
    )


def through_service(service, dockerfile, image):
    """Seconds, and the builder. The build is deleted again, with its tag."""
    connection = service.connect()

    def run():
        return service.ended(connection, service.submit(connection, dockerfile, image=image), "published")

    seconds, build = timed(run)
    service.ask(connection, "DELETE", f"/api/v1/builds/{build['id']}?remote=true")
    return seconds, build["builder"]


def on_engine(engine, dockerfile, image, builder):
    """Seconds."""

    def run():
        engine.build(dockerfile, image, builder)
        engine.push(image)

    seconds, _ = timed(run)
    engine.remove(image)
    return seconds


def pickup(bench):
    """`started_at` − `created_at`, one build at a time. `created_at` is taken before the accepting commit."""
    reference = fsync_times(bench.work)
    for name, redis, goal in bench.stores(10, 15):
        with Service(bench.binary, bench.work, redis=redis) as service:
            service.until_idle()
            connection = service.connect()
            waits = [one_pickup(service, connection) for _ in range(bench.pick(30, 200))]
        p99, bare = percentile(waits, 0.99), percentile(reference, 0.99)
        yield Row(
            f"pick-up by an idle worker, {name} (p50 / p99 of {len(waits)})",
            f"{median(waits):.0f} / {p99:.0f} ms",
            f"{median(reference):.1f} / {bare:.1f} ms: one write of 4 KiB with fsync",
            p99 / bare,
            f"p99 ≤ {goal} ms",
            p99 <= goal,
        )


def one_pickup(service, connection):
    text = f"FROM busybox:latest\nLABEL bench={uuid.uuid4().hex}\n"
    build = service.ended(connection, service.submit(connection, text, push="false"), "built")
    service.ask(connection, "DELETE", f"/api/v1/builds/{build['id']}")
    created, started = (datetime.fromisoformat(build[name]) for name in ("created_at", "started_at"))
    return (started - created).total_seconds() * 1e3


def fsync_times(folder):
    """Milliseconds of one durable write of 4 KiB each, the least that any durable commit costs on this disk."""
    path = folder / "fsync"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            seconds, _ = timed(lambda: (file.write(bytes(4096)), os.fdatasync(file.fileno())))
            times.append(seconds * 1e3)
    path.unlink()
    return times
