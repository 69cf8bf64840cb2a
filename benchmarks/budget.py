"""What a study costs besides the network: processor time of each role, by psutil.

python -m benchmarks.budget [--rounds 3]

The roles do their part one after the other, each with all studies: the node takes them, then a
worker with a network of zero cost (benchmarks.stub) classifies them, then another reports and
delivers. A worker's first batches, in which it starts its decoders, do not count. Relay and broker
run all the time. What runs in children counts with its parent.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from benchmarks import backlog, client, objects, rig, sheet
from dicom_node.peer import Peer
from worker.states import JobKind

ROLES = ("node", "classification", "report and delivery", "relay", "broker")
WORKER = [sys.executable, "-m", "worker", "worker", "--queues", "io"]
STUB = [sys.executable, "-m", "benchmarks.stub", "worker", "--queues", "gpu"]


@dataclass(frozen=True, slots=True)
class Load:
    """Something to send."""

    name: str
    side: int
    syntax: str
    count: int
    warm_up: int
    goal: int


LOADS = (
    Load("2 megapixels, JPEG", objects.TWO_MEGAPIXELS, str(JPEGBaseline8Bit), 240, 48, 60),
    Load("10 MB, uncompressed", objects.TEN_MEGABYTES, str(ExplicitVRLittleEndian), 96, 32, 20),
)


@dataclass
class Costs:
    """Milliseconds of processor time a study, by role, and studies a second, of each round."""

    processor: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rate: list[float] = field(default_factory=list)


@contextmanager
def _without_workers(peer: Peer) -> Iterator[tuple[dict[str, str], dict[str, int], Path]]:
    """Run all roles but workers; give their environment, their processes, and their log."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name:
        log, port = Path(name) / "log", rig.free_port()
        settings = {"CXR_DESTINATIONS": str(peer), "CXR_LOG_LEVEL": "WARNING"}
        env = rig.environment(Path(name), port, settings)
        with backlog.ledger_of(env), ExitStack() as running:
            pids = {
                role: running.enter_context(
                    rig.program([sys.executable, "-m", "worker", role], env, log)
                ).pid
                for role in ("redis", "node", "relay")
            }
            rig.wait_for_port(port, log)
            yield env, pids, log


def _round(load: Load, numbers: Iterator[int], costs: Costs) -> None:
    """Let each role do its part."""
    studies = [objects.radiograph(next(numbers), load.side, load.syntax) for _ in range(load.count)]
    with rig.pacs() as (peer, arrivals), _without_workers(peer) as (env, pids, log):
        before = backlog.Moment.of(0, pids)
        _, stored = client.run(
            "127.0.0.1", int(env["CXR_PORT"]), rig.NODE, [studies], client.LARGEST_PDU, load.syntax
        )
        received = backlog.Moment.of(stored, pids)
        with backlog.ledger_of(env) as ledger, rig.program(STUB, env, log) as worker:
            classified = backlog.watch(
                lambda: load.count - ledger.owed(JobKind.CLASSIFY),
                {**pids, "worker": worker.pid}, load.warm_up, load.count,
            )  # fmt: skip
        with rig.program(WORKER, env, log) as worker:
            reported = backlog.watch(
                lambda: len(rig.arrived(arrivals)),
                {**pids, "worker": worker.pid}, load.warm_up, load.count,
            )  # fmt: skip
    spent = [(before, received), classified, reported]
    for role, (first, last) in zip(ROLES, spent, strict=False):
        key = "node" if role == "node" else "worker"
        costs.processor[role].append(_each(first, last, key))
    for role, key in (("relay", "relay"), ("broker", "redis")):
        costs.processor[role].append(sum(_each(*pair, key) for pair in spent))
    costs.rate.append(backlog.rate(*classified))


def _each(first: backlog.Moment, last: backlog.Moment, role: str) -> float:
    used = last.processor[role] - first.processor[role]
    return 1000 * used / (last.done - first.done)


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure all loads."""
    numbers = itertools.count(1)
    figures = []
    for load in LOADS:
        costs = Costs()
        for number in range(options.rounds):
            _round(load, numbers, costs)
            print(f"round {number + 1}: {load.name}", file=sys.stderr)
        figures += _figures(load, costs)
    return figures


def _figures(load: Load, costs: Costs) -> list[sheet.Figure]:
    worker = costs.processor["classification"]
    parts = {role: statistics.median(costs.processor[role]) for role in ROLES}
    whole = sum(parts.values())
    beside = ", ".join(f"{role} {each:.1f}" for role, each in parts.items())
    return [
        sheet.Figure(
            f"classification without the network's own time, {load.name}",
            sheet.spread([1000 / each for each in worker], "a second per core"),
            f"one worker: {sheet.spread(costs.rate, 'a second')}",
            f"{load.goal} a second per core",
        ),
        sheet.Figure(
            f"everything but the network, {load.name}",
            f"{whole:.1f} ms of a core a study",
            beside,
            "15 % of what the network takes on a CPU",
        ),
    ]


if __name__ == "__main__":
    sys.exit(sheet.run(measure, sheet.parser("budget", __doc__).parse_args()))
