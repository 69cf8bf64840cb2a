"""Studies that wait for a worker, put there without a node; and how many still do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psutil
from pydicom.uid import DigitalXRayImageStorageForPresentation
from sqlalchemy import Engine, func, select

from benchmarks.objects import Radiograph
from dicom_node.archive import Archive
from dicom_node.errors import PacsWorkerError
from dicom_node.storage_scp import Received
from worker import ledger
from worker.clock import clock_of
from worker.database import build_engine, build_reading_sessions, build_sessions, upgrade
from worker.settings import Settings
from worker.states import JobKind
from worker.tables import Job

_LIMIT_S = 600.0
# Long enough ago for a study to be quiet.
_AGO = timedelta(seconds=60)


@contextmanager
def ledger_of(env: Mapping[str, str]) -> Iterator[Ledger]:
    """Open the ledger and the archive of an environment, which are made where they are not."""
    settings = Settings.from_env(env)
    upgrade(settings.database_url)
    engine = build_engine(settings.database_url)
    try:
        yield Ledger(engine, Archive(settings.archive_root))
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is owed, and where it lies."""

    engine: Engine
    archive: Archive

    def fill(self, instances: Sequence[Radiograph], syntax: str) -> None:
        """Let instances be there, each a study, all at the same moment."""
        now = clock_of(self.engine)() - _AGO
        received = [self._store(instance, syntax) for instance in instances]
        with build_sessions(self.engine)() as session, session.begin():
            for each in received:
                ledger.record(session, each(now), quiet=timedelta())
            ledger.close_association(session, "benchmark")

    def _store(self, instance: Radiograph, syntax: str) -> Callable[..., Received]:
        uid, study = instance.sop_instance_uid, instance.study_instance_uid
        stored = self.archive.write(study, uid, instance.data)
        return lambda now: Received(
            sop_instance_uid=uid, sop_class_uid=str(DigitalXRayImageStorageForPresentation),
            study_instance_uid=study, series_instance_uid=f"{study}.1", transfer_syntax_uid=syntax,
            patient_id="BENCH", accession_number="", study_date="20260101", modality="DX",
            calling_ae_title="BENCHMARK", association_id="benchmark", path=stored.path,
            size=stored.size, sha256=stored.sha256, received_at=now,
        )  # fmt: skip

    def owed(self, kind: JobKind) -> int:
        """Count the work of a kind that is not done."""
        with build_reading_sessions(self.engine)() as session:
            return session.scalar(select(func.count()).where(Job.kind == kind)) or 0


@dataclass(frozen=True, slots=True)
class Moment:
    """How much was done by then, and the seconds of processor time that each role had used."""

    at: float
    done: int
    processor: dict[str, float]

    @classmethod
    def of(cls, done: int, roles: Mapping[str, int]) -> Moment:
        """Look at the clocks, of roles by their process."""
        used = {name: processor_s(pid) for name, pid in roles.items()}
        return cls(time.monotonic(), done, used)


def watch(
    done: Callable[[], int], roles: Mapping[str, int], first: int, last: int
) -> tuple[Moment, Moment]:
    """Wait until `first` is done, and until `last` is; give both moments.

    Raises
    ------
    PacsWorkerError
        When that takes too long.
    """
    end, seen = time.monotonic() + _LIMIT_S, []
    for goal in (first, last):
        while (count := done()) < goal:
            if time.monotonic() > end:
                raise PacsWorkerError(f"{count} of {last} were done in {_LIMIT_S:g} s")
            time.sleep(0.02)
        seen.append(Moment.of(count, roles))
    return seen[0], seen[1]


def rate(first: Moment, last: Moment) -> float:
    """Give how much was done in a second between two moments."""
    return (last.done - first.done) / (last.at - first.at)


def processor_s(pid: int) -> float:
    """Give the processor time of a process and its children, those that ended included."""
    parent = psutil.Process(pid)
    total = sum(parent.cpu_times()[:4])
    for child in parent.children():
        try:
            total += processor_s(child.pid)
        except psutil.NoSuchProcess:
            continue
    return total
