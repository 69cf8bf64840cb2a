"""What reports cost: to make them, and to deliver them to one destination from a backlog.

python -m benchmarks.delivery [--rounds 5]

In this process, over a real ledger (SQLite) and archive, to a PACS in a process of its own. Beside
it, in the same round, the same with one claim for each study and one association for each report.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from benchmarks import objects, rig, sheet
from dicom_node import storage_scu
from dicom_node.archive import Archive
from dicom_node.peer import Peer
from dicom_node.storage_scp import Received
from worker import database, delivering, ledger, node, reporting
from worker.desk import Desk
from worker.ledger import NewFinding
from worker.settings import Settings
from worker.states import JobKind

STUDIES = 200
FOUND = NewFinding(assessed=True, finding="PRESENT", pneumonia=0.9, bacterial=0.7, viral=0.3)
MODEL = {"threshold": 0.5, "undetermined": [0.4, 0.6], "temperature": 1.0, "calibrated": True}
FROM_BACKLOG, ONE_EACH = "from the backlog", "one each"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a study took, in milliseconds: of a core, and by the clock."""

    cpu: float
    wall: float


@contextmanager
def desk(peer: Peer) -> Iterator[Desk]:
    """Set a desk up whose only destination is a PACS."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-") as name:
        settings = Settings.from_env(
            {"CXR_HOME": name, "CXR_DESTINATIONS": str(peer), "CXR_QUIET_S": "0"}
        )
        url = f"sqlite:///{name}/cxr.sqlite3"
        database.upgrade(url)
        engine = database.build_engine(url)
        yield Desk(database.build_sessions(engine), Archive(Path(name) / "archive"), settings)
        engine.dispose()


def receive(desk: Desk, first: int, count: int) -> None:
    """Receive and classify studies, up to their reports being due."""
    record = node.recorder(desk.sessions, 0, _nobody)
    for each in objects.radiographs(count, objects.SMALL, first=first):
        stored = desk.archive.write(each.study_instance_uid, each.sop_instance_uid, each.data)
        record(
            Received(
                sop_instance_uid=each.sop_instance_uid,
                sop_class_uid=str(DigitalXRayImageStorageForPresentation),
                study_instance_uid=each.study_instance_uid,
                series_instance_uid=f"{each.study_instance_uid}.1",
                transfer_syntax_uid=str(ExplicitVRLittleEndian),
                patient_id="BENCH", accession_number="", study_date="20260101", modality="DX",
                calling_ae_title="BENCH", association_id="bench", path=stored.path,
                size=stored.size, sha256=stored.sha256, received_at=datetime.now(UTC),
            )
        )  # fmt: skip
    node.closer(desk.sessions, _nobody)("bench")
    with desk.sessions() as session, session.begin():
        now = desk.clock()
        model = ledger.model_row(
            session, name="bench", version="1", digest="d" * 64, details=MODEL, now=now
        )
        for claim in ledger.claim(session, JobKind.CLASSIFY, count, now, desk.lease):
            ledger.save_finding(session, claim, model, FOUND, now)


def _nobody(*_: object) -> None:
    """Ring no bell: the benchmark knows what is due."""


def cost(step: Callable[[], int]) -> Cost:
    """Do all that is due of a kind."""
    cpu, wall, done = time.process_time(), time.monotonic(), 0
    while count := step():
        done += count
    took = time.process_time() - cpu, time.monotonic() - wall
    return Cost(1000 * took[0] / done, 1000 * took[1] / done)


@contextmanager
def one_each() -> Iterator[None]:
    """Claim one study, and send one report by an association, at a time."""
    over = property(lambda line: line.has_answered)
    with (
        patch.object(reporting, "REPORTS_AT_ONCE", 1),
        patch.object(delivering, "AT_ONCE", 1),
        patch.object(delivering._Line, "is_over", over),
    ):
        yield


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Report and deliver a backlog in both ways, in turns."""
    costs: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    numbers = itertools.count(1, 10_000)

    def work(desk: Desk, how: str, count: int) -> None:
        receive(desk, next(numbers), count)
        peer = str(desk.settings.destinations[0].peer)
        send = storage_scu.delivering
        costs["report", how].append(cost(lambda: reporting.report(desk, _nobody)))
        costs["deliver", how].append(cost(lambda: delivering.deliver(desk, peer, send, _nobody)))

    with rig.pacs() as (peer, _), desk(peer) as ours:
        work(ours, FROM_BACKLOG, 2)  # imports, and statements that are compiled once
        costs.clear()
        for number in range(options.rounds):
            work(ours, FROM_BACKLOG, STUDIES)
            with one_each():
                work(ours, ONE_EACH, STUDIES)
            print(f"round {number + 1}", file=sys.stderr)
    return [_figure(what, costs) for what in ("report", "deliver")]


def _figure(what: str, costs: dict[tuple[str, str], list[Cost]]) -> sheet.Figure:
    told = [
        f"{sheet.spread([each.cpu for each in costs[what, how]], 'ms of a core each', 1)}, "
        f"{sheet.spread([1000 / each.wall for each in costs[what, how]], 'a second')}"
        for how in (FROM_BACKLOG, ONE_EACH)
    ]
    return sheet.Figure(f"{what} {STUDIES} studies", told[0], f"{ONE_EACH}: {told[1]}")


if __name__ == "__main__":
    sys.exit(sheet.run(measure, sheet.parser("delivery", __doc__).parse_args()))
