"""Queries people ask: studies with their findings, reports and deliveries."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.orm import Session

from worker.ledger.reports import model_of
from worker.noticed import notice_record
from worker.states import ARRIVED, DeliveryState, Finding, JobKind, StudyState
from worker.tables import Base

# Columns of the table for the terminal that a modality may fill without measure.
IDS, ID_WIDTH = ("accession", "patient id"), 20
PROBABILITIES = ("pneumonia", "bacterial", "viral")

_NAMES = (
    "studies", "instances", "findings", "models", "reports", "deliveries", "notices", "jobs",
)  # fmt: skip
studies, instances, findings, models, reports, deliveries, notices, jobs = (
    Base.metadata.tables[name] for name in _NAMES
)


@dataclass(frozen=True, slots=True)
class Found:
    """A study as its row, with the rows of what belongs to it, each in its order."""

    study: Row[Any]
    instances: Sequence[Row[Any]]
    findings: Sequence[Row[Any]]
    reports: Sequence[Row[Any]]
    deliveries: Sequence[Row[Any]]
    notices: Sequence[Row[Any]]


def find_studies(
    session: Session,
    *,
    study: str | None = None,
    accession: str | None = None,
    patient_id: str | None = None,
    state: StudyState | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Found]:
    """Find studies, newest first; filters that are None do not narrow."""
    wanted = {
        studies.c.study_instance_uid: study,
        studies.c.accession_number: accession,
        studies.c.patient_id: patient_id,
        studies.c.state: state,
    }
    statement = select(studies)
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(column == value)
    if since is not None:
        statement = statement.where(studies.c.received_at >= since)
    statement = statement.order_by(studies.c.received_at.desc(), studies.c.id.desc()).limit(limit)
    rows = session.execute(statement).all()
    return list(details_of(session, rows))


def details_of(session: Session, rows: Sequence[Row[Any]]) -> Iterator[Found]:
    """Give what belongs to each of some rows of `studies`, in their order."""
    for start in range(0, len(rows), _AT_ONCE):
        yield from _found(session, rows[start : start + _AT_ONCE])


# Among so many at once, a database still looks each of them up by an index.
_AT_ONCE = 100
_OF_THEM: Any = bindparam("ids", expanding=True)
_DETAILS: tuple[Select[Any], ...] = (
    select(
        *instances.c["study_id", "id", "sop_instance_uid", "sop_class_uid", "path", "removed_at"]
    )
    .where(instances.c.study_id.in_(_OF_THEM))
    # By study first, which costs nothing: by number alone PostgreSQL may go along all numbers.
    .order_by(instances.c.study_id, instances.c.id),
    select(
        instances.c.study_id,
        *findings.c["instance_id", "model_id", "assessed", "reason", "finding", "flags"],
        *findings.c[PROBABILITIES],
        *models.c["name", "version", "digest"],
    )
    .join_from(instances, findings)
    .join(models)
    .where(instances.c.study_id.in_(_OF_THEM))
    .order_by(findings.c.id),  # a clock may be set back
    select(reports)
    .where(reports.c.study_id.in_(_OF_THEM))
    .order_by(reports.c.revision),
    select(reports.c.study_id, deliveries)
    .join_from(reports, deliveries)
    .where(reports.c.study_id.in_(_OF_THEM))
    .order_by(deliveries.c.destination),
    # One notice after the other: joined, PostgreSQL might read what is owed of all studies.
    select(
        *notices.c[
            "study_id", "id", "report_id", "target", "message_id", "finding", "corrects", "state",
            "attempts", "tries", "last_answer", "owed_at", "sent_at",
        ],
        select(jobs.c.last_error)
        .where(jobs.c.kind == JobKind.NOTIFY, jobs.c.subject_id == notices.c.id)
        .scalar_subquery()
        .label("last_error"),
    )
    .where(notices.c.study_id.in_(_OF_THEM))
    .order_by(notices.c.study_id, notices.c.id),
)  # fmt: skip


def _found(session: Session, rows: Sequence[Row[Any]]) -> Iterator[Found]:
    ids = [study.id for study in rows]
    details = [_by_study(session, statement, ids) for statement in _DETAILS]
    for study in rows:
        yield Found(study, *(of_studies[study.id] for of_studies in details))


def _by_study(
    session: Session, statement: Select[Any], ids: Sequence[int]
) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(statement, {"ids": ids}):
        found[row.study_id].append(row)
    return found


def study_record(found: Found) -> dict[str, Any]:
    """Give the JSON of one study: the contract of ``cxr-worker results --format json``."""
    study = found.study
    chosen = _model_of(found)
    model = next((row for row in found.findings if row.model_id == chosen), None)
    told = told_of(found)
    revisions = {report.id: report.revision for report in found.reports}
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "patient_id": study.patient_id,
        "received_at": study.received_at.isoformat(),
        "state": study.state,
        "instances": [_instance_record(each, told.get(each.id)) for each in found.instances],
        "reports": [_report_record(report, found.deliveries) for report in found.reports],
        "notices": [notice_record(each, revisions) for each in found.notices],
        "model": model and {"name": model.name, "version": model.version, "digest": model.digest},
    }


def told_of(found: Found) -> dict[int, Row[Any]]:
    """Give by instance what the study's model found, as the report does.

    Before that model has looked at an instance, what was found of it last.
    """
    chosen = _model_of(found)
    theirs = [row for row in found.findings if row.model_id == chosen]
    return {row.instance_id: row for row in (*found.findings, *theirs)}


def _model_of(found: Found) -> int | None:
    return model_of([row.model_id for row in found.findings], len(found.instances))


def _instance_record(instance: Row[Any], row: Row[Any] | None) -> dict[str, Any]:
    values = {name: getattr(row, name, None) for name in PROBABILITIES}
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "assessed": bool(row and row.assessed),
        "reason": row.reason if row else None,
        "probabilities": {name: value for name, value in values.items() if value is not None},
        "finding": row.finding if row else None,
        "flags": row.flags if row else [],
    }


def _report_record(report: Row[Any], deliveries: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "sop_instance_uid": report.sop_instance_uid,
        "revision": report.revision,
        "created_at": report.created_at.isoformat(),
        "deliveries": [
            _delivery_record(each) for each in deliveries if each.report_id == report.id
        ],
    }


def _delivery_record(delivery: Row[Any]) -> dict[str, Any]:
    return {
        "destination": delivery.destination,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "delivered_at": delivery.delivered_at and delivery.delivered_at.isoformat(),
        "committed_at": delivery.committed_at and delivery.committed_at.isoformat(),
        "sop_class_uid": delivery.sop_class_uid,
        "sop_instance_uid": delivery.sop_instance_uid,
        "answer": delivery.last_answer,
    }


# --- how they are shown ----------------------------------------------------------------------


def to_json(records: Sequence[dict[str, Any]]) -> str:
    """Show studies as a JSON list."""
    return json.dumps(records, indent=2, ensure_ascii=False)


CSV_COLUMNS = (
    "study_instance_uid", "accession_number", "patient_id", "received_at", "state",
    "sop_instance_uid", "assessed", "reason", "pneumonia", "bacterial", "viral", "finding",
    "model", "report", "revision", "delivered", "committed",
)  # fmt: skip


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Show studies as CSV with a header, one row an instance."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for record in records for row in _rows(record))
    return buffer.getvalue()


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    report = record["reports"][-1] if record["reports"] else {}
    deliveries = report.get("deliveries", [])
    model = record["model"]
    shared = {
        **record,
        "model": model and f"{model['name']} {model['version']}",
        "report": report.get("sop_instance_uid"),
        "revision": report.get("revision"),
        "delivered": _destinations(deliveries, ARRIVED),
        "committed": _destinations(deliveries, {DeliveryState.COMMITTED}),
    }
    for instance in record["instances"]:
        yield {**shared, **instance, **instance["probabilities"]}


def _destinations(deliveries: Sequence[dict[str, Any]], states: Collection[str]) -> str:
    return " ".join(d["destination"] for d in deliveries if d["state"] in states)


COLOURS = {Finding.PRESENT: "bold red", Finding.ABSENT: "green", Finding.UNDETERMINED: "yellow"}


def to_table(records: Sequence[dict[str, Any]]) -> Table:
    """Show studies as a table for the terminal, one row an instance."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("received", "accession", "patient id", "state", "pneumonia", "finding", "study"):
        table.add_column(
            name,
            justify="right" if name == "pneumonia" else "left",
            overflow="ellipsis" if name in IDS else "fold",
            no_wrap=name != "study",
            max_width=ID_WIDTH if name in IDS else None,
        )
    for record in records:
        for row in _rows(record):
            table.add_row(*_cells(record, row))
    return table


def _cells(record: dict[str, Any], row: dict[str, Any]) -> list[str | Text]:
    finding = row["finding"]
    says = f"[{COLOURS[finding]}]{finding}[/]" if finding else f"[dim]{row['reason'] or '…'}[/]"
    probability = row.get("pneumonia")
    return [
        f"{datetime.fromisoformat(record['received_at']).astimezone():%Y-%m-%d %H:%M:%S}",
        Text(record["accession_number"]),  # never markup, whatever a modality wrote
        Text(record["patient_id"]),
        record["state"],
        "" if probability is None else f"{probability:.1%}",
        says,
        record["study_instance_uid"],
    ]
