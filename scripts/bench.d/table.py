"""One row a measurement, and how they are shown."""

import math
import time
from dataclasses import dataclass


@dataclass
class Row:
    """`ratio` is measured / reference; `met` is None where there is no goal."""

    what: str
    measured: str
    reference: str
    ratio: float | None
    goal: str
    met: bool | None


def percentile(values, share):
    """The smallest value that `share` of all values do not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values):
    return percentile(values, 0.5)


def timed(work):
    """Seconds that the work took, and what it answered."""
    start = time.perf_counter()
    answer = work()
    return time.perf_counter() - start, answer


HEAD = ("what", "measured", "reference", "ratio", "goal", "met?")


def markdown(rows):
    shown = [HEAD] + [
        (r.what, r.measured, r.reference, "–" if r.ratio is None else f"{r.ratio:.2f}×", r.goal, {True: "yes", False: "NO", None: "–"}[r.met])
        for r in rows
    ]
    widths = [max(len(line[i]) for line in shown) for i in range(len(HEAD))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in shown]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
