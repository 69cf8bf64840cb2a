"""Thousands of good and hostile associations with a real node: `make soak`.

Prints Markdown tables of what was done and what it cost the node. Exits with 1 when an instance
that was acknowledged is not there, a thread or a descriptor stays behind, or the memory keeps
growing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from sqlalchemy import select

from tests import hostile
from tests.e2e.programs import START_S, clean_environment, free_port, listens, stop, wait_until
from tests.wire import AC, RJ, Wire, wired
from worker import database
from worker.tables import Instance

GOOD = 0.3  # of all associations
BURST = 200  # associations at once, more than are served
SENDERS = 12
PARTS = 4
CALM_S = 60  # until all that was begun has ended
POOL_DESCRIPTORS = 12  # the database's pool may keep a few connections more than in the beginning
# What a Python process of this size takes and gives back without growing.
SLACK_MB = 24
SLACK_SHARE = 0.1


@dataclass
class Tally:
    """What was done, and what was acknowledged."""

    done: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, acknowledged: tuple[str, ...] = ()) -> None:
        with self.lock:
            self.done[what] += 1
            self.acknowledged.extend(acknowledged)

    def went_wrong(self, what: str) -> None:
        with self.lock:
            self.wrong[what] += 1


@dataclass(frozen=True)
class Cost:
    """What a node that has nothing to do holds."""

    after: int
    threads: int
    descriptors: int
    resident_mb: float


def store_some(port: int, chance: Random, tally: Tally) -> None:
    """Store one to three instances, as a modality does, and try again while the node is busy."""
    instances = [hostile.fresh(chance) for _ in range(chance.randrange(1, 4))]
    for _ in range(200):
        with wired(port, CALM_S) as wire:
            answer = wire.associate()
            if answer == AC:
                statuses = [wire.store(ds) for ds in instances]
                wire.release()
                break
        time.sleep(0.05)
    else:
        return tally.went_wrong("a good sender was never served")
    if any(status != 0 for status in statuses):
        tally.went_wrong(f"a good instance was answered with {statuses}")
    stored = zip(instances, statuses, strict=True)
    uids = tuple(str(ds.SOPInstanceUID) for ds, status in stored if status == 0)
    tally.count("store", uids)


def do_one(port: int, chance: Random, tally: Tally) -> None:
    if chance.random() < GOOD:
        return store_some(port, chance, tally)
    act = chance.choice(hostile.ACTS)
    with suppress(ConnectionError):  # the node may hang up on what it is sent, at any time
        act(port, chance)
    tally.count(act.__name__)


def burst(port: int, tally: Tally) -> None:
    """Ask for many associations at once, and keep them open until the last is answered."""
    wires: list[Wire] = []
    answers: Counter[str] = Counter()
    try:
        for _ in range(BURST):
            wires.append(Wire(port, CALM_S))
            wires[-1].send(hostile.request())
        for wire in wires:
            with suppress(ConnectionError):
                answers[{AC: "accepted", RJ: "rejected"}.get(wire.read()[0], "closed")] += 1
    finally:
        for wire in wires:
            wire.close()
    for what, number in answers.items():
        tally.done[f"{BURST} at once: {what}"] += number
    if not answers["accepted"]:
        tally.went_wrong("of many at once none was accepted")


def run_part(port: int, count: int, seed: int, tally: Tally) -> None:
    """Have some senders do `count` associations between them."""
    left = iter(range(count))
    taking = threading.Lock()

    def work(number: int) -> None:
        chance = Random(f"{seed}/{number}")
        while True:
            with taking:
                if next(left, None) is None:
                    return
            try:
                do_one(port, chance, tally)
            except Exception as error:
                tally.went_wrong(f"a sender met {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cost_when_calm(process: psutil.Process, after: int, threads: int = 0) -> Cost:
    """Wait until the node has let go of what ended, and see what it holds.

    Parameters
    ----------
    after
        Associations so far.
    threads
        As many as it has when it is calm; 0 when that is not known: what it keeps for a while.
    """
    deadline, seen = time.monotonic() + CALM_S, list[int]()
    while time.monotonic() < deadline:
        seen.append(process.num_threads())
        if seen[-1] <= threads or (len(seen) >= 16 and len(set(seen[-16:])) == 1):
            break
        time.sleep(0.5)
    resident_mb = process.memory_info().rss / 1e6
    return Cost(after, process.num_threads(), process.num_fds(), resident_mb)


@contextmanager
def running_node(home: Path, url: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run `cxr-worker node` on SQLite, without a broker."""
    port = free_port()
    env = clean_environment(
        CXR_HOME=str(home), CXR_BIND="127.0.0.1", CXR_PORT=str(port), CXR_DATABASE_URL=url,
        CXR_NETWORK_TIMEOUT_S="5", CXR_ARCHIVE_RESERVE_MB="0", CXR_LOG_LEVEL="ERROR",
    )  # fmt: skip
    with (home / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "node"], env=env, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: listens(port), START_S, "the node's start")
        yield port, psutil.Process(process.pid)
    finally:
        stop(process)


def found_on_disk(url: str, archive: Path) -> set[str]:
    """List the recorded instances whose files are whole."""
    engine = database.build_engine(url)
    try:
        with database.build_reading_sessions(engine)() as session:
            rows = session.scalars(select(Instance)).all()
    finally:
        engine.dispose()
    return {
        row.sop_instance_uid
        for row in rows
        if hashlib.sha256((archive / row.path).read_bytes()).hexdigest() == row.sha256
    }


def faults(tally: Tally, found: set[str], costs: list[Cost]) -> list[str]:
    """Say what must not be."""
    told = [f"{what}, {number} times" for what, number in tally.wrong.items()]
    if lost := set(tally.acknowledged) - found:
        told.append(f"{len(lost)} acknowledged instances are lost")
    first, last = costs[0], costs[-1]
    if last.threads > first.threads:
        told.append(f"{last.threads - first.threads} threads stayed behind")
    if last.descriptors > first.descriptors + POOL_DESCRIPTORS:
        told.append(f"{last.descriptors - first.descriptors} descriptors stayed behind")
    # What it takes in the first half is not yet growth; what it takes after that is.
    middle = costs[len(costs) // 2].resident_mb
    if last.resident_mb > middle * (1 + SLACK_SHARE) + SLACK_MB:
        told.append(f"memory grew from {middle:.0f} to {last.resident_mb:.0f} MB")
    return told


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def soak(associations: int, seed: int, home: Path) -> tuple[Tally, set[str], list[Cost]]:
    """Do it, and give what came out."""
    url = f"sqlite:///{home / 'node.sqlite3'}"
    database.upgrade(url)
    tally, costs = Tally(), list[Cost]()
    with running_node(home, url) as (port, process):
        run_part(port, max(SENDERS, associations // 20), seed, tally)
        burst(port, tally)
        costs.append(cost_when_calm(process, sum(tally.done.values())))
        for part in range(PARTS):
            run_part(port, associations // PARTS, seed * 1000 + part, tally)
            burst(port, tally)
            costs.append(cost_when_calm(process, sum(tally.done.values()), costs[0].threads))
        found = found_on_disk(url, home / "archive")
    return tally, found, costs


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--associations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cxr-soak-") as name:
        tally, found, costs = soak(options.associations, options.seed, Path(name))
        told = faults(tally, found, costs)
        if told:
            print((Path(name) / "node.log").read_text(errors="replace")[-2000:], file=sys.stderr)
    print(f"`python -m tests.soak --associations {options.associations} --seed {options.seed}`\n")
    print(table(("association", "times"), [(w, n) for w, n in sorted(tally.done.items())]))
    acknowledged = set(tally.acknowledged)
    kept = len(acknowledged & found)
    print(f"\nInstances acknowledged: {len(acknowledged)}; found recorded and whole: {kept}.\n")
    rows = [(c.after, c.threads, c.descriptors, f"{c.resident_mb:.0f}") for c in costs]
    print(table(("associations so far", "threads", "descriptors", "resident MB"), rows))
    took = f"{time.monotonic() - begun:.0f} s on {os.cpu_count()} cores"
    print(f"\n{took}: {'; '.join(told) or 'all is well'}")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
