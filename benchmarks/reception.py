"""How fast the node takes what modalities send, beside DCMTK and Orthanc, with the same sender.

python -m benchmarks.reception [--rounds 5]

Ours answers after fsync of the file and its folder and a committed row; the others after write(2).
Each round, all take turns at each load; each load is of objects that were never sent before. Our
sender (benchmarks.client) takes next to no time; DCMTK's storescu is what many systems send with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import memory, objects, peers, rig, sheet
from dicom_node.errors import PacsWorkerError
from dicom_node.peer import Peer

OURS = "cxr-worker"
STORESCU = "storescu"


@dataclass(frozen=True, slots=True)
class Load:
    """Something to send."""

    name: str
    side: int
    senders: int
    each: int
    unit: str
    sender: str = "benchmarks.client"


LOADS = (
    Load("10 MB objects, one association", objects.TEN_MEGABYTES, 1, 30, "MB/s"),
    Load(
        "10 MB objects, one association, sent by storescu",
        objects.TEN_MEGABYTES,
        1,
        30,
        "MB/s",
        STORESCU,
    ),
    Load("76 kB objects, one association", objects.SMALL, 1, 300, "objects/s"),
    Load("10 MB objects, 20 senders at once", objects.TEN_MEGABYTES, 20, 3, "MB/s"),
    Load("76 kB objects, 20 senders at once", objects.SMALL, 20, 30, "objects/s"),
)
GOALS = {
    LOADS[0]: "1.2 times DCMTK",
    LOADS[1]: "1.2 times DCMTK",
    LOADS[2]: "250 a second, faster than Orthanc",
    LOADS[3]: "not less than one sender",
    LOADS[4]: "not less than one sender",
}


def send(peer: Peer, load: Load, first: int) -> float:
    """Send a load, and give its rate."""
    os.sync()  # nobody pays for what another left unwritten
    sent = _by_storescu if load.sender == STORESCU else _by_ours
    seconds, stored, size = sent(peer, load, first)
    if stored != load.senders * load.each:
        raise PacsWorkerError(f"{peer} stored {stored} only")
    return stored * (size / 1e6 if load.unit == "MB/s" else 1) / seconds


def _by_ours(peer: Peer, load: Load, first: int) -> tuple[float, int, int]:
    command = [
        sys.executable, "-m", "benchmarks.client", f"{peer.host}:{peer.port}", peer.ae_title,
        "--senders", str(load.senders), "--objects", str(load.each), "--side", str(load.side),
        "--first", str(first),
    ]  # fmt: skip
    answer = json.loads(_run(command, peer))
    return answer["seconds"], answer["stored"], answer["bytes"] // max(answer["stored"], 1)


def _by_storescu(peer: Peer, load: Load, first: int) -> tuple[float, int, int]:
    """Send files; the time is that of the program, association included."""
    sent = objects.radiographs(load.each, load.side, first=first)
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name:
        for each in sent:
            (Path(name) / each.sop_instance_uid).write_bytes(each.data)
        os.sync()
        memory.touch()
        started = time.monotonic()
        _run(
            [peers.dcmtk(STORESCU), "--max-send-pdu", "131072", "--call", peer.ae_title, "+sd",
             peer.host, str(peer.port), name],
            peer,
        )  # fmt: skip
        return time.monotonic() - started, len(sent), len(sent[0].data_set)


def _run(command: list[str], peer: Peer) -> str:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run(  # noqa: S603  our own program, or a peer's
        command, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise PacsWorkerError(f"sending to {peer} failed: {done.stderr[-500:]}")
    return done.stdout


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
        loads = [each for each in LOADS if each.sender != STORESCU or peers.dcmtk(STORESCU)]
        for number, load in itertools.product(range(options.rounds), loads):
            for name, peer in there.items():
                before = sum(ours.cpu_times()[:2])
                rates[name, load].append(send(peer, load, next(numbers)))
                if name == OURS:
                    used = sum(ours.cpu_times()[:2]) - before
                    processor[load].append(1000 * used / (load.senders * load.each))
            print(f"round {number + 1}: {load.name}", file=sys.stderr)
    return [_figure(load, rates, processor[load], list(there)) for load in loads]


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
