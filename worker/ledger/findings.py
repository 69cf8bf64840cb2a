"""Findings: what a model says of instances, entered as their classification is struck off."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from worker.ledger.claiming import claimable
from worker.ledger.jobs import Claim, insert, settle
from worker.states import ANOTHER_PATIENT, JobKind
from worker.tables import Base, FindingRow, Instance, Job, Model


@dataclass(frozen=True, slots=True)
class NewFinding:
    """An answer about one instance, or the reason why there is none.

    Its heat map, where one was made, is an 8-bit grey PNG of the whole image as a square.
    """

    assessed: bool
    reason: str | None = None
    finding: str | None = None
    pneumonia: float | None = None
    bacterial: float | None = None
    viral: float | None = None
    flags: tuple[str, ...] = ()
    heatmap: bytes | None = None


def claimed_instances(session: Session, claims: Sequence[Claim]) -> dict[int, Instance]:
    """Fetch the instances of classification claims, by their id."""
    ids = [claim_.subject_id for claim_ in claims]
    return {i.id: i for i in session.scalars(select(Instance).where(Instance.id.in_(ids)))}


def model_row(
    session: Session,
    *,
    name: str,
    version: str,
    digest: str,
    details: dict[str, Any],
    now: datetime,
) -> int:
    """Give the id of the model's row, made on its first use."""
    known = select(Model.id).where(Model.digest == digest)
    found = session.scalar(known)
    if found is not None:
        return found
    session.execute(
        insert(session, Model)
        .values(name=name, version=version, digest=digest, details=details, first_used_at=now)
        .on_conflict_do_nothing(index_elements=["digest"])
    )
    return session.scalars(known).one()


def save_finding(
    session: Session, claim_: Claim, model_id: int, new: NewFinding, now: datetime
) -> None:
    """Save one instance's finding and strike its classification off.

    It takes the place of an earlier one by the same model, as a new row: the highest id is what
    was said last, even after a return to an older model.

    Raises
    ------
    LeaseLost
        When another worker has taken the instance over.
    """
    settle(session, claim_)
    _replace(session, model_id, {claim_: new}, now)


def save_findings(
    session: Session, model_id: int, found: Mapping[Claim, NewFinding], now: datetime
) -> set[Claim]:
    """Save the findings of a batch at once, each as `save_finding` does.

    It waits for no lock while it holds others: whoever takes a study's work over takes several in
    another order.

    Returns
    -------
    set of Claim
        Those that were saved. The others are lost, or somebody else has them in hand just now;
        `save_finding` finds out.
    """
    ids = [claim_.job_id for claim_ in found]
    rows = session.execute(
        select(Job.id, Job.token).where(Job.id.in_(ids)).with_for_update(skip_locked=True)
    )
    tokens = {row.id: row.token for row in rows}
    held = {each: new for each, new in found.items() if tokens.get(each.job_id) == each.token}
    if held:
        session.execute(delete(Job).where(Job.id.in_([claim_.job_id for claim_ in held])))
        _replace(session, model_id, held, now)
    return set(held)


def withhold(session: Session, study_id: int, uids: Collection[str]) -> None:
    """Withhold what was found of images of another patient; the study's row is held.

    Nobody is shown it as an answer about the patient as whose the study is known.
    """
    session.execute(_WITHHOLD, {"study": study_id, "uids": list(uids)})


_findings, _instances = (Base.metadata.tables[name] for name in ("findings", "instances"))
_WITHHOLD = (
    update(_findings)
    .where(
        _findings.c.instance_id.in_(
            select(_instances.c.id).where(
                _instances.c.study_id == bindparam("study"),
                _instances.c.sop_instance_uid.in_(bindparam("uids", expanding=True)),
            )
        )
    )
    .values(
        assessed=False, reason=ANOTHER_PATIENT, finding=None, pneumonia=None, bacterial=None,
        viral=None, flags=[], heatmap=None,
    )
)  # fmt: skip


def _replace(
    session: Session, model_id: int, found: Mapping[Claim, NewFinding], now: datetime
) -> None:
    instances = [claim_.subject_id for claim_ in found]
    earlier = (FindingRow.model_id == model_id, FindingRow.instance_id.in_(instances))
    session.execute(delete(FindingRow).where(*earlier))
    values = [
        {
            "instance_id": claim_.subject_id, "model_id": model_id, "assessed": new.assessed,
            "reason": new.reason, "finding": new.finding, "pneumonia": new.pneumonia,
            "bacterial": new.bacterial, "viral": new.viral, "flags": list(new.flags),
            "heatmap": new.heatmap, "created_at": now,
        }
        for claim_, new in found.items()
    ]  # fmt: skip
    session.execute(sqlalchemy.insert(FindingRow), values)


def ready_studies(
    session: Session, study_ids: Iterable[int], now: datetime, silence: timedelta
) -> bool:
    """Tell whether any of these studies may be reported now."""
    where = claimable(JobKind.REPORT, now, silence)
    found = select(Job.id).where(*where, Job.subject_id.in_(set(study_ids))).limit(1)
    return session.scalar(found) is not None
