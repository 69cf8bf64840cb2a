"""Candidates: models that are tried on live studies. What they say is in a table of its own.

What is still to be tried is not owed as other work is (`jobs`): there it would hold up reports,
retention and erasing. It is what was answered since the trial began and a candidate has not seen,
so that nothing of a trial is written when an answer is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import Row, Select, bindparam, func, select, update
from sqlalchemy.orm import Session

from worker.ledger.claiming import IS_OWED
from worker.ledger.findings import NewFinding
from worker.ledger.jobs import insert, jobs
from worker.states import JobKind
from worker.tables import Base, Candidate, Instance, ShadowFinding, UTCDateTime

findings, instances, studies, candidates = (
    Base.metadata.tables[name] for name in ("findings", "instances", "studies", "candidates")
)

# Answers younger than that wait for a candidate: one with a smaller id may not be committed yet.
SETTLED = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model by what it says of itself, and the folder that it lies in."""

    name: str
    version: str
    digest: str
    folder: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate that this process holds, with the answers that it is to look at next.

    Attributes
    ----------
    answers
        Rows of `findings`, in the order of their ids.
    """

    candidate_id: int
    token: int
    deaths: int
    model: Artifact
    answers: Sequence[Row[Any]]


# --- the one that is tried -------------------------------------------------------------------


def candidate(session: Session) -> Candidate | None:
    """Give the model that is tried now."""
    return session.scalars(_ACTIVE).first()


def last_candidate(session: Session) -> Candidate | None:
    """Give the model that is tried now, or was last."""
    return session.scalars(_LAST).first()


_ACTIVE = select(Candidate).where(Candidate.until.is_(None)).order_by(Candidate.id)
_LAST = select(Candidate).order_by(Candidate.since.desc(), Candidate.id.desc()).limit(1)


def begin_trial(session: Session, model: Artifact, now: datetime) -> None:
    """Try a model on whatever is answered from now on; one that is tried already is no more."""
    end_trial(session, now)
    newest = session.scalar(select(func.max(findings.c.id))) or 0
    state = {
        "name": model.name, "version": model.version, "folder": model.folder, "since": now,
        "until": None, "seen_id": newest, "next_at": now, "held": False, "deaths": 0,
        "last_error": None,
    }  # fmt: skip
    statement = insert(session, Candidate).values(digest=model.digest, token=0, **state)
    again = {**state, "token": Candidate.token + 1}
    session.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=again))


def end_trial(session: Session, now: datetime) -> Artifact | None:
    """Try no model any more; give the one that was tried."""
    found = candidate(session)
    if found is None:
        return None
    session.execute(_ENDING, {"now": now})
    return artifact_of(found)


_ENDING = (
    update(candidates)
    .where(candidates.c.until.is_(None))
    .values(
        until=bindparam("now", type_=UTCDateTime()),
        token=candidates.c.token + 1,
        held=sqlalchemy.false(),
    )
)


def artifact_of(row: Candidate) -> Artifact:
    """Give the model of a candidate."""
    return Artifact(row.name, row.version, row.digest, row.folder)


# --- trying it -------------------------------------------------------------------------------


def is_trial_due(session: Session, now: datetime, settled: timedelta) -> bool:
    """Tell whether there are answers that a candidate has not looked at, and may now."""
    return _due(session, now, settled, 1) is not None


def claim_trial(
    session: Session, now: datetime, settled: timedelta, lease: timedelta, limit: int
) -> Trial | None:
    """Claim the candidate until `now` + `lease`, with the next answers that it is to look at.

    Nothing is given while an image waits to be classified: that goes first.
    """
    found = _due(session, now, settled, limit)
    if found is None:
        return None
    row, answers = found
    deaths = row.deaths + row.held
    claimed = session.execute(
        _CLAIMING,
        {"candidate": row.id, "was": row.token, "lease": now + lease, "died": deaths},
    )
    if _count(claimed) != 1:
        return None
    return Trial(row.id, row.token + 1, deaths, artifact_of(row), answers)


def _due(
    session: Session, now: datetime, settled: timedelta, limit: int
) -> tuple[Candidate, Sequence[Row[Any]]] | None:
    row = session.scalars(_ACTIVE).first()
    if row is None or row.next_at > now:
        return None
    if session.execute(_CLASSIFYING, {"now": now}).first():
        return None
    answers: list[Row[Any]] = []
    for each in session.execute(_UNSEEN, {"seen": row.seen_id, "limit": limit}):
        if each.created_at > now - settled:
            break
        answers.append(each)
    return (row, answers) if answers else None


_CLASSIFYING = (
    select(jobs.c.id)
    .where(
        jobs.c.kind == JobKind.CLASSIFY,
        jobs.c.destination == "",
        IS_OWED,
        jobs.c.due_at <= bindparam("now", type_=UTCDateTime()),
    )
    .limit(1)
)
_SAID = (
    "id", "instance_id", "model_id", "reason", "finding", "pneumonia", "created_at",
)  # fmt: skip
_UNSEEN: Select[Any] = (
    select(*(findings.c[name] for name in _SAID))
    .where(findings.c.id > bindparam("seen"))
    .order_by(findings.c.id)
    .limit(bindparam("limit"))
)
_CLAIMING = (
    update(candidates)
    .where(candidates.c.id == bindparam("candidate"), candidates.c.token == bindparam("was"))
    .values(
        token=candidates.c.token + 1,
        held=sqlalchemy.true(),
        deaths=bindparam("died"),
        next_at=bindparam("lease", type_=UTCDateTime()),
    )
)


def shown_instances(session: Session, trial: Trial) -> dict[int, Instance]:
    """Fetch the instances of a trial whose files are kept, by their id."""
    ids = [each.instance_id for each in trial.answers]
    which = (Instance.id.in_(ids), Instance.removed_at.is_(None))
    return {each.id: each for each in session.scalars(select(Instance).where(*which))}


def save_shadows(
    session: Session, trial: Trial, found: Mapping[int, NewFinding], now: datetime
) -> bool:
    """Save what a candidate says of instances, and that it has looked at the trial's answers.

    Each study is held: what is being erased gets no row that would stay behind. What the candidate
    has said of the same bytes before stays as it was.

    Parameters
    ----------
    found
        By the instances' ids.

    Returns
    -------
    bool
        False when it is tried no more, or another worker has it by now: then nothing is saved.
    """
    last = trial.answers[-1].id
    values = {"next_at": now, "deaths": 0, "seen_id": last, "last_error": None}
    if not _release(session, trial, values):
        return False
    said = {each.instance_id: each for each in trial.answers}
    for instance_id, new in sorted(found.items()):
        kept = _held_instance(session, instance_id)
        if kept is not None:
            row = _row(trial, said[instance_id], new, kept.sha256, now)
            session.execute(insert(session, ShadowFinding).values(row).on_conflict_do_nothing())
    return True


def put_trial_off(session: Session, trial: Trial, until: datetime, error: str) -> None:
    """Give a candidate back that could not be tried now, and say why; it is no death."""
    _release(session, trial, {"next_at": until, "last_error": error})


def _release(session: Session, trial: Trial, values: Mapping[str, Any]) -> bool:
    mine = (candidates.c.id == trial.candidate_id, candidates.c.token == trial.token)
    done = session.execute(update(candidates).where(*mine).values(held=False, **values))
    return _count(done) == 1


def _held_instance(session: Session, instance_id: int) -> Row[Any] | None:
    """Take an instance's study, and give the instance if its file is still kept."""
    session.execute(_HOLDING, {"instance": instance_id})
    return session.execute(_KEPT, {"instance": instance_id}).one_or_none()


_THIS = instances.c.id == bindparam("instance")
_HOLDING = (
    select(studies.c.id)
    .where(studies.c.id == select(instances.c.study_id).where(_THIS).scalar_subquery())
    .with_for_update()
)
_KEPT = select(instances.c.sha256).where(_THIS, instances.c.removed_at.is_(None))


def _row(
    trial: Trial, said: Row[Any], new: NewFinding, sha256: str, now: datetime
) -> dict[str, Any]:
    return {
        "candidate_id": trial.candidate_id, "instance_id": said.instance_id, "sha256": sha256,
        "assessed": new.assessed, "reason": new.reason, "finding": new.finding,
        "pneumonia": new.pneumonia, "bacterial": new.bacterial, "viral": new.viral,
        "live_model_id": said.model_id, "live_reason": said.reason, "live_finding": said.finding,
        "live_pneumonia": said.pneumonia, "created_at": now,
    }  # fmt: skip


def _count(result: Any) -> int:
    return int(result.rowcount)


# --- comparing it ----------------------------------------------------------------------------

shadows, models, verdicts = (
    Base.metadata.tables[name] for name in ("shadow_findings", "models", "verdicts")
)
_SINCE = bindparam("since", type_=UTCDateTime())
_OF_TRIAL = (shadows.c.candidate_id == bindparam("candidate"), shadows.c.created_at >= _SINCE)
_NEWEST = (shadows.c.created_at.desc(), shadows.c.id.desc())


def compared(session: Session, row: Candidate, limit: int) -> Sequence[Row[Any]]:
    """List what a candidate and the model in use said of the same images, the newest first.

    Returns
    -------
    sequence of rows
        Instance, model, and of each: finding (None when not assessed), reason and pneumonia.
    """
    return session.execute(_COMPARED, {**_trial_of(row), "limit": limit}).all()


def disagreed(session: Session, row: Candidate, limit: int) -> Sequence[Row[Any]]:
    """List images of which a candidate says something else, with their studies' UIDs."""
    return session.execute(_DISAGREED, {**_trial_of(row), "limit": limit}).all()


def judged_of_trial(session: Session, row: Candidate) -> Sequence[Row[Any]]:
    """List the verdicts on images that a candidate has seen, whatever answer they are about."""
    return session.execute(_JUDGED, _trial_of(row)).all()


def count_unseen(session: Session, row: Candidate, most: int) -> int:
    """Count the answers that a candidate is still to look at, up to `most`."""
    return session.scalar(_BEHIND, {"seen": row.seen_id, "most": most}) or 0


def _trial_of(row: Candidate) -> dict[str, Any]:
    return {"candidate": row.id, "since": row.since}


_BOTH = (
    "instance_id", "live_model_id", "finding", "reason", "pneumonia", "live_finding",
    "live_reason", "live_pneumonia", "created_at",
)  # fmt: skip
_COMPARED: Select[Any] = (
    select(*(shadows.c[name] for name in _BOTH))
    .where(*_OF_TRIAL)
    .order_by(*_NEWEST)
    .limit(bindparam("limit"))
)
_DISAGREED: Select[Any] = (
    select(
        *(shadows.c[name] for name in _BOTH),
        *studies.c["study_instance_uid", "received_at"],
    )
    .join_from(shadows, instances)
    .join(studies)
    .where(
        *_OF_TRIAL,
        func.coalesce(shadows.c.finding, "") != func.coalesce(shadows.c.live_finding, ""),
    )
    .order_by(*_NEWEST)
    .limit(bindparam("limit"))
)
_JUDGED: Select[Any] = (
    select(*verdicts.c["id", "instance_id", "person", "label"])
    .where(verdicts.c.instance_id.in_(select(shadows.c.instance_id).where(*_OF_TRIAL)))
    .order_by(verdicts.c.id)
)
_SOME: Any = (
    select(findings.c.id)
    .where(findings.c.id > bindparam("seen"))
    .limit(bindparam("most"))
    .subquery()
)
_BEHIND = select(func.count()).select_from(_SOME)
