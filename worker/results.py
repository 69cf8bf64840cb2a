"""Queries people ask: studies with their findings, reports and deliveries."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from worker.states import ARRIVED, DeliveryState, Finding, StudyState
from worker.tables import Delivery, FindingRow, Instance, Model, Report, Study

# Columns of the table for the terminal that a modality may fill without measure.
IDS, ID_WIDTH = ("accession", "patient id"), 20
PROBABILITIES = ("pneumonia", "bacterial", "viral")


def find_studies(
    session: Session,
    *,
    study: str | None = None,
    accession: str | None = None,
    patient_id: str | None = None,
    state: StudyState | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> Sequence[Study]:
    """Find studies, newest first; filters that are None do not narrow."""
    wanted = {
        Study.study_instance_uid: study,
        Study.accession_number: accession,
        Study.patient_id: patient_id,
        Study.state: state,
    }
    statement = select(Study).options(
        selectinload(Study.instances)
        .selectinload(Instance.findings)
        .selectinload(FindingRow.model),
        selectinload(Study.reports).selectinload(Report.deliveries),
    )
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(column == value)
    if since is not None:
        statement = statement.where(Study.received_at >= since)
    statement = statement.order_by(Study.received_at.desc(), Study.id.desc()).limit(limit)
    return session.scalars(statement).all()


def study_record(study: Study) -> dict[str, Any]:
    """Give the JSON of one study: the contract of ``cxr-worker results --format json``."""
    newest = max((r for i in study.instances for r in i.findings), key=_age, default=None)
    model = newest.model if newest else None
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "patient_id": study.patient_id,
        "received_at": study.received_at.isoformat(),
        "state": study.state,
        "instances": [_instance_record(instance, model) for instance in study.instances],
        "reports": [_report_record(report) for report in study.reports],
        "model": model and {"name": model.name, "version": model.version, "digest": model.digest},
    }


def _finding_of(instance: Instance, model: Model | None) -> FindingRow | None:
    """Give what the study's model found, as the report does; before it has looked, the last."""
    theirs = [row for row in instance.findings if row.model is model]
    return max(theirs or instance.findings, key=_age, default=None)


def _age(row: FindingRow) -> tuple[datetime, int]:
    return row.created_at, row.id


def _instance_record(instance: Instance, model: Model | None) -> dict[str, Any]:
    row = _finding_of(instance, model)
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


def _report_record(report: Report) -> dict[str, Any]:
    return {
        "sop_instance_uid": report.sop_instance_uid,
        "revision": report.revision,
        "created_at": report.created_at.isoformat(),
        "deliveries": [_delivery_record(delivery) for delivery in report.deliveries],
    }


def _delivery_record(delivery: Delivery) -> dict[str, Any]:
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
