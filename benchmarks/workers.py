"""How much more two workers do on one queue than one, where the network takes most of the time.

python -m benchmarks.workers [--rounds 5] [--database postgresql://...]

The network sleeps 50 ms a batch of four small images, so that two workers have work for two cores
to spare. Each worker is a process of its own; rounds of one and of two take turns.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from benchmarks import backlog, objects, rig, sheet, stub
from dicom_node.errors import PacsWorkerError
from worker.states import JobKind

STUDIES, BATCH, SLEEP_MS = 320, 4, 50
_START_S = 120.0
_READY = "is loaded"


def _start(stack: ExitStack, env: Mapping[str, str], log: Path) -> None:
    """Start a worker that has its model."""
    words = [sys.executable, "-m", "benchmarks.stub", "worker", "--queues", "gpu"]
    stack.enter_context(rig.program(words, env, log))
    deadline = time.monotonic() + _START_S
    while _READY not in log.read_text():
        if time.monotonic() > deadline:
            raise PacsWorkerError(f"a worker did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _studies_a_second(count: int, numbers: Iterator[int], settings: Mapping[str, str]) -> float:
    """Let so many workers classify what is all due at once."""
    studies = [objects.radiograph(next(numbers), objects.SMALL) for _ in range(STUDIES)]
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name, ExitStack() as running:
        ours = {"CXR_BATCH_SIZE": str(BATCH), stub.SLEEP: str(SLEEP_MS)}
        env = rig.environment(Path(name), rig.free_port(), {**ours, **settings})
        ledger = running.enter_context(backlog.ledger_of(env))
        for role in ("redis", "relay"):
            words = [sys.executable, "-m", "worker", role]
            running.enter_context(rig.program(words, env, Path(name) / f"{role}.log"))
        for number in range(count):
            _start(running, env, Path(name) / f"worker-{number}.log")
        before = ledger.owed(JobKind.CLASSIFY)  # a database that is named may not be empty
        ledger.fill(studies, str(ExplicitVRLittleEndian))
        return backlog.rate(
            *backlog.watch(
                lambda: STUDIES + before - ledger.owed(JobKind.CLASSIFY), {}, 10 * BATCH, STUDIES
            )
        )


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure one worker and two."""
    settings = {"CXR_DATABASE_URL": options.database} if options.database else {}
    numbers = itertools.count(1)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number, count in itertools.product(range(options.rounds), rates):
        rates[count].append(_studies_a_second(count, numbers, settings))
        print(f"round {number + 1}: {count} at work", file=sys.stderr)
    times = statistics.median(rates[2]) / statistics.median(rates[1])
    return [
        sheet.Figure(
            f"two workers on one queue, network of {SLEEP_MS} ms a batch of {BATCH}",
            f"{times:.2f} times one",
            f"one {sheet.spread(rates[1], 'a second')}, two {sheet.spread(rates[2], 'a second')}",
            "1.8 times one",
        )
    ]


if __name__ == "__main__":
    arguments = sheet.parser("workers", __doc__)
    arguments.add_argument("--database", help="URL of a PostgreSQL database; SQLite by default")
    sys.exit(sheet.run(measure, arguments.parse_args()))
