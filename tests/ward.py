"""A worker without network, broker and model: the steps over a real archive and SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.commitment import Commitment
from dicom_node.storage_scp import Outcome
from tests import datasets
from tests.fakes import AtOnce, Bells, Clock, FakeAsk, FakeClassifier, FakeSend, new_uid, received
from worker import classifying, committing, delivering, ledger, node, reporting, results
from worker.desk import Desk
from worker.explaining import Explain
from worker.settings import Settings
from worker.tables import Delivery, FindingRow, Instance, Job, Outage, Report, Study

PACS, VIEWER = "PACS@192.0.2.1:104", "VIEWER@192.0.2.2:104"


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Ward:
    """Everything between a received data set and a delivered report."""

    def __init__(self, folder: Path, sessions: sessionmaker[Session], **environ: str) -> None:
        values = {"CXR_HOME": str(folder / "home"), "CXR_DESTINATIONS": PACS, **environ}
        self.sessions = sessions
        self.archive = Archive(folder / "archive")
        self.settings = Settings.from_env(values)
        self.clock = Clock()
        self.bells = Bells()
        self.classifier = FakeClassifier()
        self.explain: Explain | None = None
        self.send = FakeSend()
        self.ask = FakeAsk()
        self.desk = Desk(sessions, self.archive, self.settings, self.clock)
        self.written_down: list[tuple[str, str]] = []
        self._record = node.recorder(sessions, self.settings.quiet_s, self.bells)

    def write_down(self, study: Study) -> None:
        """Stand for the audit trail."""
        self.written_down.append((study.study_instance_uid, study.patient_id))

    # --- reception ---------------------------------------------------------------------------

    def receive(self, ds: Dataset | bytes, association_id: str = "a", **changes: Any) -> Outcome:
        """Store an instance as the node does, and close its association."""
        data = ds if isinstance(ds, bytes) else datasets.part10(ds)
        header = dcmread(BytesIO(data), stop_before_pixels=True, force=True)
        uid, study = str(header.SOPInstanceUID), str(header.StudyInstanceUID)
        stored = self.archive.write(study, uid, data)
        facts = received(
            sop_instance_uid=uid, study_instance_uid=study, association_id=association_id,
            patient_id=str(header.get("PatientID", "")), received_at=self.clock(),
            path=stored.path, size=stored.size, sha256=stored.sha256,
        )  # fmt: skip
        outcome = self._record(replace(facts, **changes))
        node.closer(self.sessions, self.bells)(association_id)
        return outcome

    def receive_study(self, count: int = 1, **attributes: Any) -> str:
        """Receive a study of `count` instances that the model may judge; give its UID."""
        study = new_uid()
        for _ in range(count):
            self.receive(chest(study, **attributes))
        return study

    # --- steps -------------------------------------------------------------------------------

    def classify(self) -> int:
        """Classify one batch."""
        return classifying.classify(
            self.desk, self.classifier, self.bells, self.explain, go_on_s=-1
        )

    def classify_all(self) -> int:
        """Classify batch after batch, the next one always begun before one is answered."""
        return classifying.classify(
            self.desk, self.classifier, self.bells, self.explain, helper=AtOnce(), go_on_s=60
        )

    def report(self) -> int:
        return reporting.report(self.desk, self.bells)

    def deliver(self, destination: str = PACS) -> int:
        return delivering.deliver(self.desk, destination, self.send, self.bells)

    def commit(self, destination: str = PACS) -> int:
        return committing.commit(self.desk, destination, self.ask, self.bells)

    def answer(self, commitment: Commitment) -> bool:
        """Have a destination answer to the node."""
        return node.taker(self.sessions, self.clock)(commitment)

    def work(self, seconds: float = 0) -> None:
        """Do all that is due, and what becomes due in the next `seconds`."""
        end = self.clock() + timedelta(seconds=seconds)
        for _ in range(200):
            here = (self.classify, self.report)
            there = (self.deliver, self.commit)
            done = sum(step() for step in here)
            if done + sum(step(each) for step in there for each in (PACS, VIEWER)):
                continue
            if self.clock() >= end:
                return
            later = [job.due_at for job in self.jobs() if job.state != "DEAD"]
            later += [row.next_try_at for row in self.all(Outage)]
            self.clock.now = min([end, *(at for at in later if at > self.clock())])
        raise AssertionError("the work does not end")

    def story(self, study: str) -> ledger.Story:
        with self.sessions() as session, session.begin():
            row = session.scalars(select(Study).where(Study.study_instance_uid == study)).one()
            story = ledger.story(session, row.id, self.clock())
        assert story is not None
        return story

    @contextmanager
    def killed_at(self, count: int) -> Iterator[list[bool]]:
        """Kill the process when it opens its session number `count` (from 0)."""
        left, happened = count, [False]

        def sessions() -> Session:
            nonlocal left
            left -= 1
            if left < 0:
                happened[0] = True
                raise Killed
            return self.sessions()

        alive = self.desk
        self.desk = replace(alive, sessions=sessions)
        try:
            yield happened
        except Killed:
            pass
        finally:
            self.desk = alive

    # --- what came of it ---------------------------------------------------------------------

    def all(self, table: type[Any]) -> Sequence[Any]:
        with self.sessions() as session:
            return session.scalars(select(table).order_by(table.__table__.c[0])).all()

    def findings(self) -> list[Any]:
        rows: list[FindingRow] = list(self.all(FindingRow))
        return rows

    def reasons(self) -> list[str | None]:
        """The reason of each instance in the order of reception, None when it is assessed."""
        rows = {row.instance_id: row.reason for row in self.findings()}
        return [rows[instance.id] for instance in self.all(Instance)]

    def reports(self) -> list[Dataset]:
        return [dcmread(self.archive.absolute(row.path)) for row in self.all(Report)]

    def states(self) -> list[str]:
        return [study.state for study in self.all(Study)]

    def deliveries(self) -> list[tuple[str, str]]:
        return [(row.destination, row.state) for row in self.all(Delivery)]

    def jobs(self) -> list[Any]:
        return list(self.all(Job))

    def requeue(self, study: str) -> int | None:
        with self.sessions() as session, session.begin():
            return ledger.requeue(session, study, self.clock())

    def discard(self, study: str) -> int | None:
        with self.sessions() as session, session.begin():
            return ledger.discard(session, study, "not wanted", "somebody", self.clock())

    def records(self) -> list[dict[str, Any]]:
        with self.sessions() as session:
            return [results.study_record(study) for study in results.find_studies(session)]


def chest(study: str = "", **attributes: Any) -> Dataset:
    """A chest image of a study, which the header lets through."""
    study = study or new_uid()
    defaults = {
        "SOPInstanceUID": new_uid(),
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
    }
    return datasets.image(**(defaults | attributes))


def words(ds: Dataset) -> str:
    """Everything a report says in text and the meaning of its codes."""
    keywords = ("TextValue", "CodeMeaning", "NumericValue")
    values = (elem.value for elem in ds.iterall() if elem.keyword in keywords)
    return "\n".join(map(str, values))
