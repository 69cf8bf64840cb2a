"""How many studies a second `cxr-worker up` reports, all offered at once, beside its engine alone.

python -m benchmarks.throughput [--rounds 3] [--studies 500]

From the first C-STORE request to the last report's arrival at the PACS, with the default settings:
the rest of CXR_QUIET_S after the last image is part of it. Sender and PACS run on the same cores;
what of them they take is told, and they take it from ours alone. The bare engine answers prepared
images in batches of 16, alone, before each round and after the last.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydicom.uid import JPEGBaseline8Bit

from benchmarks import backlog, client, objects, rig, sheet
from model.batches import MOST_ON_CPU
from model.openvino_engine import generated_chests
from model.predict import Classifier

RELEASED = Path(__file__).parents[1] / "model" / "released"
ENGINES_MEASURED = ("auto", "tensorflow")
SENDERS = 4
_BARE_S, _LIMIT_S = 4.0, 900.0


@dataclass
class Turns:
    """What came of the rounds with one engine."""

    bare: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    ours_ms: list[float] = field(default_factory=list)
    others_ms: list[float] = field(default_factory=list)


def images_a_second(classifier: Classifier) -> float:
    """Give how fast a bare engine is that has the cores to itself."""
    images = generated_chests(classifier.spec.size, MOST_ON_CPU)[..., 0]
    classifier.forward(images)  # compiles
    begin, count = time.monotonic(), 0
    while (taken := time.monotonic() - begin) < _BARE_S:
        classifier.forward(images)
        count += len(images)
    return count / taken


def _offer(engine: str, studies: list[objects.Radiograph], turns: Turns) -> None:
    """Offer studies all at once to `up`, and wait for all reports."""
    settings = {"CXR_ENGINE": engine, "CXR_LOG_LEVEL": "WARNING"}
    with rig.pacs() as (pacs, arrivals), rig.up({**settings, "CXR_DESTINATIONS": str(pacs)}) as (
        peer, _,
    ):  # fmt: skip
        roles = {_name(each): each.pid for each in psutil.Process().children()}
        before = backlog.Moment.of(0, roles)
        sender_s = time.process_time()
        begin = _send(peer.port, studies)
        sender_s = time.process_time() - sender_s
        found = _wait(arrivals, len(studies))
        after = backlog.Moment.of(len(studies), roles)
    used = {name: after.processor[name] - before.processor[name] for name in roles}
    turns.whole.append(len(studies) / (max(found) - begin))
    low, high = found[len(found) // 10], found[-len(found) // 10]
    turns.middle.append(0.8 * len(found) / (high - low))
    turns.ours_ms.append(1000 * used["up"] / len(studies))
    turns.others_ms.append(1000 * (used["pacs"] + sender_s) / len(studies))


def _name(process: psutil.Process) -> str:
    return "pacs" if any("pacs" in word for word in process.cmdline()) else "up"


def _send(port: int, studies: list[objects.Radiograph]) -> float:
    """Send in some associations at once; give when they began."""
    parts = [studies[n::SENDERS] for n in range(SENDERS)]
    syntax = str(JPEGBaseline8Bit)
    begin = time.monotonic()
    client.run("127.0.0.1", port, rig.NODE, parts, syntax=syntax)
    return begin


def _wait(arrivals: Path, count: int) -> list[float]:
    deadline = time.monotonic() + _LIMIT_S
    while len(found := rig.arrived(arrivals)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return sorted(found.values())


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure each engine, and `up` with it, in turns."""
    numbers = itertools.count(1)
    found = {engine: Turns() for engine in ENGINES_MEASURED}
    bare = {engine: Classifier.load(RELEASED, "cpu", engine) for engine in found}
    for number, engine in itertools.product(range(options.rounds), found):
        turns = found[engine]
        turns.bare.append(images_a_second(bare[engine]))
        _offer(engine, _studies(options.studies, numbers), turns)
        turns.bare.append(images_a_second(bare[engine]))
        print(f"round {number + 1}: {engine}", file=sys.stderr)
    return [_figure(engine, bare[engine].engine, turns, options) for engine, turns in found.items()]


def _studies(count: int, numbers: Iterator[int]) -> list[objects.Radiograph]:
    side, syntax = objects.TWO_MEGAPIXELS, str(JPEGBaseline8Bit)
    return [objects.radiograph(next(numbers), side, syntax) for _ in range(count)]


def _figure(engine: str, name: str, turns: Turns, options: argparse.Namespace) -> sheet.Figure:
    share = statistics.median(turns.whole) / statistics.median(turns.bare)
    ours, others = statistics.median(turns.ours_ms), statistics.median(turns.others_ms)
    return sheet.Figure(
        f"{options.studies} studies of 2 megapixels, JPEG, offered at once, CXR_ENGINE={engine}",
        f"{sheet.spread(turns.whole, 'a second', 1)}, {share:.0%} of the bare engine; "
        f"the middle 80 % at {statistics.median(turns.middle):.1f} a second",
        f"{name} alone, batches of {MOST_ON_CPU}: {sheet.spread(turns.bare, 'images/s', 1)}; "
        f"a study takes {ours:.1f} ms of a core of ours and {others:.1f} of sender and PACS",
        "85 % of the bare engine",
    )


if __name__ == "__main__":
    arguments = sheet.parser("throughput", __doc__)
    arguments.add_argument("--studies", type=int, default=500)
    sys.exit(sheet.run(measure, arguments.parse_args()))
