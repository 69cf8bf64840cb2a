"""Shortcuts for tests of the ledger: one call a transaction, as the roles do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.storage_scp import Outcome
from tests.fakes import Clock, delivered, new_uid, received
from worker import ledger
from worker.ledger import Claim, NewFinding, NewReport
from worker.states import JobKind
from worker.tables import Base, Delivery, Instance, Job, Report, Study

LEASE = timedelta(seconds=300)
SILENCE = timedelta(seconds=60)
QUIET = timedelta(seconds=2)
PACS, VIEWER = "PACS@192.0.2.1:104", "VIEWER@192.0.2.2:104"
FOUND = NewFinding(assessed=True, finding="PRESENT", pneumonia=0.9, bacterial=0.7, viral=0.3)


@dataclass
class Desk:
    """A ledger with a clock."""

    sessions: sessionmaker[Session]
    clock: Clock = field(default_factory=Clock)

    def do(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `work(session, ...)` in a transaction of its own."""
        with self.sessions() as session, session.begin():
            return work(session, *args, **kwargs)

    def all(self, table: type[Any]) -> Sequence[Any]:
        with self.sessions() as session:
            return session.scalars(select(table).order_by(table.__table__.c[0])).all()

    def one(self, table: type[Any]) -> Any:
        (row,) = self.all(table)
        return row

    def states(self) -> dict[str, str]:
        """What is owed, by kind."""
        return {job.kind: job.state for job in self.all(Job)}

    def receive(self, study: str = "", **changes: Any) -> Outcome:
        """Record an instance, received now."""
        changes.setdefault("received_at", self.clock())
        facts = received(study_instance_uid=study or new_uid(), **changes)
        outcome: Outcome = self.do(ledger.record, facts, quiet=QUIET)
        return outcome

    def close(self, association_id: str = "association-1") -> datetime | None:
        due: datetime | None = self.do(ledger.close_association, association_id)
        return due

    def claim(self, kind: JobKind, limit: int = 16, **options: Any) -> list[Claim]:
        claims: list[Claim] = self.do(
            ledger.claim, kind, limit, self.clock(), LEASE, silence=SILENCE, **options
        )
        return claims

    def model(self, digest: str = "d" * 64) -> int:
        row: int = self.do(
            ledger.model_row,
            name="m", version="1", digest=digest, details={}, now=self.clock(),
        )  # fmt: skip
        return row

    def classify(self, new: NewFinding = FOUND, model: int | None = None) -> int:
        """Classify all that is due."""
        model = model or self.model()
        done = 0
        while claims := self.claim(JobKind.CLASSIFY):
            for claim in claims:
                self.do(ledger.save_finding, claim, model, new, self.clock())
            done += len(claims)
        return done

    def claim_report(self) -> Claim:
        """Claim the one report that is due, and gather its story."""
        (claim,) = self.claim(JobKind.REPORT, 1)
        assert self.do(ledger.story, claim.study_id, self.clock()) is not None
        return claim

    def new_report(self, revision: int = 1, uid: str = "") -> NewReport:
        return NewReport(
            uid or new_uid(), "1.2.3", f"r{revision}.dcm", "e" * 64, revision, self.model()
        )

    def report(self, *destinations: str, revision: int = 1, uid: str = "") -> NewReport:
        """Report the one study that is due."""
        claim, new = self.claim_report(), self.new_report(revision, uid)
        self.do(ledger.save_report, claim, new, destinations or (PACS,), self.clock())
        return new

    def deliver(self, destination: str = PACS, status: int = 0, *, commit: bool = False) -> Claim:
        """Deliver the one report that is due at a destination."""
        (claim,) = self.claim(JobKind.DELIVER, destination=destination)
        self.save_delivered(claim, status, commit=commit)
        return claim

    def save_delivered(self, claim: Claim, status: int = 0, *, commit: bool = False) -> None:
        rows = {delivery.id: delivery for delivery in self.all(Delivery)}
        (report,) = [
            each for each in self.all(Report) if each.id == rows[claim.subject_id].report_id
        ]
        taken = delivered(status, report.sop_instance_uid)
        self.do(ledger.save_delivered, claim, taken, "success", self.clock(), commit=commit)

    def ready(self, instances: int = 1) -> str:
        """Receive and classify a study, up to its report being due; give its UID."""
        study = new_uid()
        for _ in range(instances):
            self.receive(study)
        self.close()
        self.classify()
        self.clock.forward(QUIET.total_seconds())
        return study

    def study_state(self, study: str) -> str:
        with self.sessions() as session:
            found = session.scalars(select(Study).where(Study.study_instance_uid == study)).one()
        return found.state

    def counts(self) -> tuple[int, ...]:
        """How many studies, instances, reports and deliveries there are."""
        return tuple(len(self.all(table)) for table in (Study, Instance, Report, Delivery))


def empty(sessions: sessionmaker[Session]) -> None:
    """Forget everything, for a test that starts from nothing many times."""
    with sessions() as session, session.begin():
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
