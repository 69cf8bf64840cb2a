"""Reception: an instance and the work it owes, entered in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Table, bindparam, delete, exists, func, select, update
from sqlalchemy.orm import Session

from dicom_node.records import Outcome, Received
from worker.ledger.jobs import dialect_of, has_dead_letters, insert_of, jobs, owe_all
from worker.states import REMOVED, JobKind, StudyEvent, StudyState, after
from worker.tables import Base

studies, instances, findings, verdicts, receptions = (
    Base.metadata.tables[name]
    for name in ("studies", "instances", "findings", "verdicts", "receptions")
)


class FileVanished(Exception):
    """The file of an instance was removed while the instance came again: store it once more."""


# Tells whether the archive has a file that was removed, by its path; and by whether a removal of it
# was begun and is not known to be over.
IsThere = Callable[[str, bool], bool]


def record(
    session: Session,
    received: Received,
    *,
    quiet: timedelta,
    is_there: IsThere = lambda *_: True,
) -> Outcome:
    """Enter an instance whose bytes are durable, and the work it owes.

    One whose file was removed is entered again. What was found of the same bytes stands.

    Parameters
    ----------
    is_there : callable
        An `IsThere`.

    Returns
    -------
    Outcome
        STORED; DUPLICATE when the same bytes are known already; CONFLICT when other bytes are
        known under the same SOP Instance UID, or the UID belongs to another study.

    Raises
    ------
    FileVanished
        When its file was removed since it was written; nothing may be committed then.
    """
    study_id, known_study = _taken(session, received)
    instance_id = _enter(session, instances, _instance_of(received, study_id))
    if instance_id is None:
        known = session.execute(_KNOWN, {"uid": received.sop_instance_uid}).one()
        if known_study is None or known.study_id != study_id or known.removed_at is None:
            return _known(session, received, known, study_id, is_new=known_study is None)
        # Whoever removes files of the study has its row: what is there now stays.
        if not is_there(received.path, known.path == received.path):
            raise FileVanished(received.path)
        instance_id = known.id
        if _enter_again(session, received, known):
            _note_again(session, received, known_study)
            return Outcome.STORED
    _owe(session, received, instance_id, study_id, quiet)
    if known_study is not None:
        _note_instance(session, known_study, received.received_at)
    _note_reception(session, received, study_id)
    return Outcome.STORED


def _taken(session: Session, received: Received) -> tuple[int, Any]:
    """Enter a study, or take the known one for a change; give its id, and what was known."""
    while True:
        study_id = _enter(session, studies, _study_of(received))
        if study_id is not None:
            return study_id, None
        known = session.execute(_LOCKED, {"uid": received.study_instance_uid}).one_or_none()
        if known is not None:  # else its rows were deleted just now
            return known.id, known


def _owe(
    session: Session, received: Received, instance_id: int, study_id: int, quiet: timedelta
) -> None:
    due_at = received.received_at
    owed = [(JobKind.CLASSIFY, instance_id, due_at), (JobKind.REPORT, study_id, due_at + quiet)]
    owe_all(session, owed, study_id)


def _study_of(received: Received) -> dict[str, Any]:
    return {
        "study_instance_uid": received.study_instance_uid,
        **_names_of(received),
        "state": StudyState.RECEIVING,
        "calling_ae_title": _fit(received.calling_ae_title, 16),
        "received_at": received.received_at,
        "last_received_at": received.received_at,
    }


def _names_of(received: Received) -> dict[str, str]:
    """Give what a study is looked for by."""
    return {
        "patient_id": _fit(received.patient_id, 256),
        "accession_number": _fit(received.accession_number, 64),
        "study_date": _fit(received.study_date, 8),
    }


def _instance_of(received: Received, study_id: int) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "series_instance_uid": received.series_instance_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "modality": _fit(received.modality, 16),
        "calling_ae_title": _fit(received.calling_ae_title, 16),
        "path": received.path,
        "size_bytes": received.size,
        "sha256": received.sha256,
        "received_at": received.received_at,
    }


def _fit(text: str, length: int) -> str:
    """Cut what a column cannot hold: a modality may send more than the VR allows, or a NUL."""
    return text.replace("\0", "")[:length]


def _enter(session: Session, table: Table, row: dict[str, Any]) -> int | None:
    """Enter a row, and give its id; None when its UID is known already."""
    dialect = dialect_of(session)
    entered = session.execute(_entering(dialect, table.name), row)
    if dialect != "sqlite":
        return cast("int | None", entered.scalar())
    assert isinstance(entered, CursorResult)  # what INSERT gives
    return entered.lastrowid if entered.rowcount else None


@cache
def _entering(dialect: str, table: str) -> Any:
    """Give the INSERT of a row that may be known by its UID."""
    uid = "study_instance_uid" if table == "studies" else "sop_instance_uid"
    rows = Base.metadata.tables[table]
    entering = insert_of(dialect, rows).on_conflict_do_nothing(index_elements=[uid])
    # SQLite tells the id of a row by itself; RETURNING it knows from version 3.35 on.
    return entering if dialect == "sqlite" else entering.returning(rows.c.id)


_LOCKED = (
    select(studies.c.id, studies.c.state, studies.c.last_received_at)
    .where(studies.c.study_instance_uid == bindparam("uid"))
    .with_for_update()
)
_KNOWN = select(*instances.c["id", "sha256", "study_id", "removed_at", "path"]).where(
    instances.c.sop_instance_uid == bindparam("uid")
)


def _known(
    session: Session, received: Received, known: Any, study_id: int, *, is_new: bool
) -> Outcome:
    """Tell what an instance is whose UID is known; leave no study behind that came by it alone."""
    if known.sha256 == received.sha256 and known.study_id == study_id:
        return Outcome.DUPLICATE
    if is_new:
        session.execute(delete(studies).where(studies.c.id == study_id))
    return Outcome.CONFLICT


def _enter_again(session: Session, received: Received, known: Any) -> bool:
    """Enter an instance whose file was removed; tell whether what was found of it stands.

    Nothing is kept that other bytes could contradict: then they are what counts. That a model could
    not look at it, as it was removed, does not stand: it can now. Where nothing else is kept of the
    study, it is known as what comes now says: a patient may have got another ID since.
    """
    values = {"instance": known.id, **_instance_of(received, known.study_id), "removed_at": None}
    session.execute(_AGAIN, values)
    if known.sha256 != received.sha256:
        for statement in _UNFINDING:
            session.execute(statement, {"instance": known.id})
        others = {"study": known.study_id, "instance": known.id}
        if session.execute(_OTHERS_KEPT, others).first() is None:
            session.execute(_NOTING, {"study": known.study_id, **_names_of(received)})
    removed = session.execute(_UNREMOVING, {"instance": known.id})
    assert isinstance(removed, CursorResult)  # what DELETE gives
    return not removed.rowcount and bool(session.scalar(_IS_FOUND, {"instance": known.id}))


_OTHERS_KEPT = (
    select(instances.c.id)
    .where(
        instances.c.study_id == bindparam("study"),
        instances.c.id != bindparam("instance"),
        instances.c.removed_at.is_(None),
    )
    .limit(1)
)
_AGAIN = update(instances).where(instances.c.id == bindparam("instance"))
_UNFINDING = tuple(
    delete(table).where(table.c.instance_id == bindparam("instance"))
    for table in (verdicts, findings)
)
_UNREMOVING = delete(findings).where(
    findings.c.instance_id == bindparam("instance"), findings.c.reason == REMOVED
)
_IS_FOUND = select(exists().where(findings.c.instance_id == bindparam("instance")))


def _note_again(session: Session, received: Received, study: Any) -> None:
    """Let a study be as young as what came again of it; it owes nothing by that."""
    last = max(study.last_received_at, received.received_at)
    session.execute(_NOTING, {"study": study.id, "last_received_at": last})
    _note_reception(session, received, study.id)


def _note_instance(session: Session, study: Any, received_at: datetime) -> None:
    """Let a known study receive again; what was given up of it stays given up."""
    state = after(StudyState(study.state), StudyEvent.STORED)
    if has_dead_letters(session, study.id):
        state = after(state, StudyEvent.GIVEN_UP)
    last = max(study.last_received_at, received_at)
    session.execute(_NOTING, {"study": study.id, "state": state, "last_received_at": last})


_NOTING = update(studies).where(studies.c.id == bindparam("study"))


def _note_reception(session: Session, received: Received, study_id: int) -> None:
    session.execute(
        _receiving(dialect_of(session)),
        {
            "association_id": received.association_id, "study_id": study_id,
            "last_at": received.received_at,
        },
    )  # fmt: skip


@cache
def _receiving(dialect: str) -> Any:
    statement = insert_of(dialect, receptions)
    return statement.on_conflict_do_update(
        index_elements=["association_id", "study_id"],
        set_={"last_at": statement.excluded.last_at},
    )


# --- the end of an association ---------------------------------------------------------------


def close_association(session: Session, association_id: str) -> datetime | None:
    """Forget an association that has ended.

    Returns
    -------
    datetime or None
        When the last of its studies becomes due for its report; None when it brought none.
    """
    ended = {"association": association_id}
    due_at: datetime | None = session.scalar(_LAST_DUE, ended)
    session.execute(_CLOSING, ended)
    return due_at


_MINE = receptions.c.association_id == bindparam("association")
# One study after the other: joined, PostgreSQL might read what is owed of all studies.
_REPORT_DUE = (
    select(jobs.c.due_at)
    .where(jobs.c.kind == JobKind.REPORT, jobs.c.subject_id == receptions.c.study_id)
    .scalar_subquery()
)
_LAST_DUE = select(func.max(_REPORT_DUE)).where(_MINE)
_CLOSING = delete(receptions).where(_MINE)
