"""All that is known of one study: what a person who opens it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.orm import Session

from dicom_node.sentence import reason_sentence
from worker.ledger.verdicts import verdicts_of
from worker.noticed import NAMES, kind_of
from worker.results import Found, details_of, told_of
from worker.states import JobState, NoticeKind, RemovalCause
from worker.tables import Base
from worker.verdicts import Judged, Says, choices, sentence
from worker.worklist import Line, line_of

_NAMES = ("studies", "findings", "models", "jobs", "decisions", "removals")
studies, findings, models, jobs, decisions, removals = (
    Base.metadata.tables[name] for name in _NAMES
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the answers of a model change, all in [0, 1].

    Attributes
    ----------
    calibrated : bool
        Whether the score may be called a probability.
    """

    threshold: float
    low: float
    high: float
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of the study, with what its model says; `scale` is None while nothing is said.

    Attributes
    ----------
    number : int or None
        By which the report names it; None while it is in none.
    verdicts : sequence of rows of `verdicts`
        The last of each reader about this model's answer.
    """

    number: int | None
    instance: Row[Any]
    told: Row[Any] | None
    scale: Scale | None
    has_heat: bool
    verdicts: Sequence[Row[Any]] = ()

    @property
    def name(self) -> str:
        """How the report calls it."""
        return "Image not in the report yet" if self.number is None else f"Image {self.number}"

    @property
    def choices(self) -> dict[Says, Judged]:
        """What a reader may say of it."""
        return {} if self.told is None else choices(self.told.finding)

    @property
    def why_not(self) -> str | None:
        """Why it was not assessed, in words; None when it was, or will be."""
        if self.told is None or self.told.assessed:
            return None
        return reason_sentence(self.told.reason)


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happened to the study."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A study, whole.

    Attributes
    ----------
    owed : sequence of rows of `jobs`
        What is still to be done, or was given up.
    decision : int
        Id of the last decision about it; 0 when there is none.
    """

    line: Line
    images: Sequence[Shown]
    owed: Sequence[Row[Any]]
    events: Sequence[Event]
    decision: int

    @property
    def given_up(self) -> Sequence[Row[Any]]:
        """What a person has to see to."""
        return [job for job in self.owed if job.state == JobState.DEAD]


def chart(session: Session, study_instance_uid: str, order: Sequence[str] = ()) -> Chart | None:
    """Gather what is known of a study; None when it is not, or is just being erased.

    Parameters
    ----------
    order
        SOP Instance UIDs of its images as its report numbers them, from 1.
    """
    if session.execute(_ERASED, {"uid": study_instance_uid}).first():
        return None
    rows = session.execute(_STUDY, {"uid": study_instance_uid}).all()
    if not rows:
        return None
    (found,) = details_of(session, rows)
    owed = session.execute(_OWED, {"study": found.study.id}).all()
    decided = session.execute(_DECIDED, {"study": found.study.id}).all()
    judged = verdicts_of(session, [each.id for each in found.instances])
    numbers = {uid: number for number, uid in enumerate(order, 1)}
    images = _images(session, found, judged, numbers)
    events = [*_events(session, found, decided), *_judgements(images, judged)]
    decision = max((row.id for row in decided), default=0)
    return Chart(line_of(found), images, owed, sorted(events), decision)


def _images(
    session: Session, found: Found, judged: Sequence[Row[Any]], numbers: Mapping[str, int]
) -> list[Shown]:
    """Give the images as the report numbers them, and those that are in none after them."""
    told = told_of(found)
    models_told = {"ids": list({row.model_id for row in told.values()})}
    scales = {row.id: _scale(row.details) for row in session.execute(_MODELS, models_told)}
    heated = {tuple(row) for row in session.execute(_HEATED, _ids(found))}
    shown = []
    for instance in found.instances:
        number, row = numbers.get(instance.sop_instance_uid), told.get(instance.id)
        if row is None:
            shown.append(Shown(number, instance, None, None, has_heat=False))
        else:
            has_heat = instance.removed_at is None and (instance.id, row.model_id) in heated
            scale, last = scales[row.model_id], _last(row, judged)
            shown.append(Shown(number, instance, row, scale, has_heat, last))
    return sorted(shown, key=lambda each: (each.number is None, each.number, each.instance.id))


def _last(told: Row[Any], judged: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Choose the last verdict of each reader about an answer, the first of them first."""
    about = (told.instance_id, told.model_id)
    last = {row.person: row for row in judged if (row.instance_id, row.model_id) == about}
    return sorted(last.values(), key=lambda row: row.id)


def _ids(found: Found) -> dict[str, list[int]]:
    return {"ids": [each.id for each in found.instances]}


def _scale(details: dict[str, Any]) -> Scale:
    low, high = details["undetermined"]
    return Scale(details["threshold"], low, high, details["calibrated"])


# --- what happened ---------------------------------------------------------------------------


def _events(session: Session, found: Found, decided: Sequence[Row[Any]]) -> Iterator[Event]:
    study = found.study
    yield Event(study.received_at, f"first image received from {study.calling_ae_title}")
    if study.last_received_at > study.received_at:
        yield Event(study.last_received_at, f"last of {len(found.instances)} images received")
    for answered in session.execute(_ANSWERED, _ids(found)).mappings():
        words = "{count} of {images} images answered by {name} {version}"
        yield Event(answered["at"], words.format(images=len(found.instances), **answered))
    for row in decided:
        reason = f": {row.reason}" if row.reason else ""
        yield Event(row.decided_at, f"{row.action.lower()} by {row.person}{reason}")
    yield from _deliveries(found)
    yield from _notices(found)


def _judgements(images: Sequence[Shown], judged: Sequence[Row[Any]]) -> Iterator[Event]:
    names = {each.instance.id: each.name for each in images}
    for row in judged:
        said = f" ({row.comment})" if row.comment else ""
        name = names.get(row.instance_id, "an image").lower()
        yield Event(row.decided_at, f"{name}: {sentence(row)}{said}")


def _deliveries(found: Found) -> Iterator[Event]:
    revisions = {report.id: report.revision for report in found.reports}
    for report in found.reports:
        yield Event(report.created_at, f"reported, revision {report.revision}")
    for row in found.deliveries:
        what = f"revision {revisions.get(row.report_id, '?')}"
        if row.delivered_at:
            yield Event(row.delivered_at, f"{what} delivered to {row.destination}")
        if row.committed_at:
            yield Event(row.committed_at, f"{what} committed by {row.destination}")


def _notices(found: Found) -> Iterator[Event]:
    for row in found.notices:
        if row.sent_at:
            what = "a notice" if kind_of(row) is NoticeKind.NEW else "a correction"
            said, name = row.finding.lower().replace("_", " "), NAMES.get(row.target, row.target)
            yield Event(row.sent_at, f"{what} ({said}) acknowledged by {name}")


# --- the statements --------------------------------------------------------------------------

_STUDY = select(studies).where(studies.c.study_instance_uid == bindparam("uid"))
_OWED = select(jobs).where(jobs.c.study_id == bindparam("study")).order_by(jobs.c.id)
_DECIDED = (
    select(decisions).where(decisions.c.study_id == bindparam("study")).order_by(decisions.c.id)
)
_THEIRS = findings.c.instance_id.in_(bindparam("ids", expanding=True))
_HEATED = select(*findings.c["instance_id", "model_id"]).where(
    _THEIRS, findings.c.heatmap.is_not(None)
)
_MODELS = select(*models.c["id", "details"]).where(
    models.c.id.in_(bindparam("ids", expanding=True))
)
_ERASED = select(removals.c.id).where(
    removals.c.study_instance_uid == bindparam("uid"),
    removals.c.cause == RemovalCause.ERASED,
    removals.c.finished_at.is_(None),
)
_ANSWERED = (
    select(
        *models.c["name", "version"],
        func.max(findings.c.created_at).label("at"),
        func.count().label("count"),
    )
    .join_from(findings, models)
    .where(_THEIRS)
    .group_by(models.c.id, *models.c["name", "version"])
)
