"""What the database says in the end, read once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from worker.states import JobState
from worker.tables import Delivery, FindingRow, Instance, Job, Notice, Report, Study


@dataclass(frozen=True)
class Books:
    """All rows that tell what became of the studies."""

    studies: dict[str, Study]
    instances: dict[str, Instance]
    reasons: dict[str, str | None]
    reports: dict[str, list[Report]]
    deliveries: dict[int, list[Delivery]]
    jobs: Sequence[Job]
    notices: Sequence[Notice] = ()

    def last_report(self, study: str) -> Report | None:
        return self.reports[study][-1] if self.reports.get(study) else None

    def owed(self) -> list[Job]:
        return [job for job in self.jobs if job.state != JobState.DEAD]

    def dead(self) -> list[Job]:
        return [job for job in self.jobs if job.state == JobState.DEAD]

    def to_record(self) -> dict[str, Any]:
        """Give all rows as plain values; they hold nothing of a patient but the planted one."""
        return {
            "studies": _values(self.studies.values()),
            "instances": _values(self.instances.values()),
            "reasons": self.reasons,
            "reports": _values(row for rows in self.reports.values() for row in rows),
            "deliveries": _values(row for rows in self.deliveries.values() for row in rows),
            "jobs": _values(self.jobs),
            "notices": _values(self.notices),
        }


def _values(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [{c.key: getattr(row, c.key) for c in row.__table__.columns} for row in rows]


def read_books(engine: Engine) -> Books:
    with Session(engine) as session:
        studies = _all(session, Study)
        instances = _all(session, Instance)
        names = {study.id: study.study_instance_uid for study in studies}
        uids = {instance.id: instance.sop_instance_uid for instance in instances}
        reports: dict[str, list[Report]] = defaultdict(list)
        for report in sorted(_all(session, Report), key=lambda each: each.revision):
            reports[names[report.study_id]].append(report)
        deliveries: dict[int, list[Delivery]] = defaultdict(list)
        for delivery in _all(session, Delivery):
            deliveries[delivery.report_id].append(delivery)
        return Books(
            {study.study_instance_uid: study for study in studies},
            {instance.sop_instance_uid: instance for instance in instances},
            {uids[row.instance_id]: row.reason for row in _all(session, FindingRow)},
            reports,
            deliveries,
            _all(session, Job),
            _all(session, Notice),
        )


def _all(session: Session, table: type[Any]) -> list[Any]:
    return list(session.scalars(select(table).order_by(table.id)))


def owed_work(engine: Engine) -> Counter[str]:
    """Count what is still owed, by kind and state."""
    with Session(engine) as session:
        rows = session.execute(select(Job.kind, Job.state).where(Job.state != JobState.DEAD))
        return Counter(f"{kind} {state}" for kind, state in rows)
