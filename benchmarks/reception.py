"""How fast the node takes what modalities send, beside DCMTK and Orthanc, with the same sender.

python -m benchmarks.reception [--rounds 5]

Ours answers after fsync of the file and its folder and a committed row; the others after write(2).
Each round, all take turns at each load; each load is of objects that were never sent before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from benchmarks import objects, peers, rig, sheet
from dicom_node.errors import PacsWorkerError
from dicom_node.peer import Peer

OURS = "cxr-worker"


@dataclass(frozen=True, slots=True)
class Load:
    """Something to send."""

    name: str
    side: int
    senders: int
    each: int
    unit: str


LOADS = (
    Load("10 MB objects, one association", objects.TEN_MEGABYTES, 1, 30, "MB/s"),
    Load("76 kB objects, one association", objects.SMALL, 1, 300, "objects/s"),
    Load("10 MB objects, 20 senders at once", objects.TEN_MEGABYTES, 20, 3, "MB/s"),
    Load("76 kB objects, 20 senders at once", objects.SMALL, 20, 30, "objects/s"),
)
GOALS = {
    LOADS[0]: "1.2 times DCMTK",
    LOADS[1]: "250 a second, faster than Orthanc",
    LOADS[2]: "not less than one sender",
    LOADS[3]: "not less than one sender",
}


def send(peer: Peer, load: Load, first: int) -> float:
    """Send a load, and give its rate."""
    os.sync()  # nobody pays for what another left unwritten
    command = [
        sys.executable, "-m", "benchmarks.client", f"{peer.host}:{peer.port}", peer.ae_title,
        "--senders", str(load.senders), "--objects", str(load.each), "--side", str(load.side),
        "--first", str(first),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise PacsWorkerError(f"sending to {peer} failed: {done.stderr[-500:]}")
    answer = json.loads(done.stdout)
    if answer["stored"] != load.senders * load.each:
        raise PacsWorkerError(f"{peer} stored {answer['stored']} only")
    amount = answer["bytes"] / 1e6 if load.unit == "MB/s" else answer["stored"]
    return float(amount / answer["seconds"])


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure all loads."""
    rates: dict[tuple[str, Load], list[float]] = defaultdict(list)
    processor: dict[Load, list[float]] = defaultdict(list)
    numbers = itertools.count(1, 10_000)
    with ExitStack() as stack:
        node, pid = stack.enter_context(rig.node({"CXR_LOG_LEVEL": "WARNING"}))
        there = {OURS: node}
        there |= {name: stack.enter_context(run()) for name, run in peers.installed().items()}
        ours = psutil.Process(pid)
        for number, load in itertools.product(range(options.rounds), LOADS):
            for name, peer in there.items():
                before = sum(ours.cpu_times()[:2])
                rates[name, load].append(send(peer, load, next(numbers)))
                if name == OURS:
                    used = sum(ours.cpu_times()[:2]) - before
                    processor[load].append(1000 * used / (load.senders * load.each))
            print(f"round {number + 1}: {load.name}", file=sys.stderr)
    return [_figure(load, rates, processor[load], list(there)) for load in LOADS]


def _figure(
    load: Load,
    rates: dict[tuple[str, Load], list[float]],
    processor: list[float],
    names: list[str],
) -> sheet.Figure:
    digits = 0
    others = []
    for name in names[1:]:
        ratio = statistics.median(rates[OURS, load]) / statistics.median(rates[name, load])
        others.append(
            f"{name} {sheet.spread(rates[name, load], load.unit, digits)}: {ratio:.2f} times"
        )
    used = f"{statistics.median(processor):.1f} ms of a core each"
    return sheet.Figure(
        f"reception, {load.name}",
        f"{sheet.spread(rates[OURS, load], load.unit, digits)}, {used}",
        "; ".join(others),
        GOALS[load],
    )


if __name__ == "__main__":
    sys.exit(sheet.run(measure, sheet.parser("reception", __doc__).parse_args()))
