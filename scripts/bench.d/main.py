"""Runs the measurements one after the other and prints the table. Started by scripts/bench."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from builds import pickup, publish
from followers import followers
from load import accept, status
from pieces import pieces
from service import Failed, Service, rss
from table import Row, markdown
from upload import context

GOAL_IDLE = 40 << 20
SETTLE = 5


class Bench:
    """What every measurement is told."""

    def __init__(self, arguments, work):
        self.binary, self.quick, self.work = arguments.binary, arguments.quick, work
        self.registry = os.environ.get("DOCKWRIGHT_TEST_REGISTRY", "127.0.0.1:5000")
        self.redis = os.environ.get("DOCKWRIGHT_TEST_REDIS", "127.0.0.1:6390") if arguments.redis else None

    def pick(self, quick, usual):
        return quick if self.quick else usual

    def stores(self, embedded, redis):
        """(name, address, goal) of each store that is to be measured."""
        yield ("embedded", None, embedded)
        if self.redis:
            yield ("Redis", self.redis, redis)


def memory(bench):
    """A service that has served a first request and then nothing, with a worker that looks at its engine."""
    engine = subprocess.run(["pidof", "-s", "dockerd"], capture_output=True, text=True, check=False).stdout.strip()
    with Service(bench.binary, bench.work) as service:
        service.until_idle()
        service.ask(service.connect(), "GET", "/api/v1/builds")
        time.sleep(SETTLE)
        idle = service.rss()
    reference = rss(int(engine)) if engine else None
    yield Row(
        "idle memory (resident)",
        f"{idle / 2**20:.1f} MiB",
        f"{reference / 2**20:.0f} MiB: the engine's daemon, now" if reference else "–",
        idle / reference if reference else None,
        "≤ 40 MiB",
        idle <= GOAL_IDLE,
    )


ROWS = {
    "memory": memory,
    "publish": publish,
    "pickup": pickup,
    "accept": accept,
    "status": status,
    "context": context,
    "followers": followers,
    "pieces": pieces,
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--redis", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ROWS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    unknown = [name for name in given.only if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; rows: {', '.join(ROWS)}")
    return given


def main():
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run.", dir=given.work))
    bench, rows, failed = Bench(given, work), [], False
    start = time.monotonic()
    try:
        for name in (name for name in ROWS if name in given.only):
            print(f"      {name} …", file=sys.stderr, flush=True)
            try:
                rows.extend(ROWS[name](bench))
            except (Failed, OSError, subprocess.CalledProcessError) as error:
                failed = True
                print(f"failed: {name}: {error}", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{markdown(rows)}\n\n{os.cpu_count()} cores, {time.monotonic() - start:.0f} s")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
