"""The steps in the life of models: each is a row that stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.ledger.candidates import Artifact
from worker.states import ModelAction
from worker.tables import ModelEvent

# What changes which model is in use.
_CHANGES = (ModelAction.USED, ModelAction.PROMOTED, ModelAction.ROLLED_BACK)


def save_event(
    session: Session,
    action: ModelAction,
    model: Artifact,
    person: str,
    now: datetime,
    *,
    reason: str = "",
    former: str = "",
) -> None:
    """Enter a step: who took it, with which model, and why."""
    session.add(
        ModelEvent(
            action=action, name=model.name, version=model.version, digest=model.digest,
            folder=model.folder, former=former, reason=reason, person=person, at=now,
        )
    )  # fmt: skip


def events(session: Session, limit: int) -> Sequence[ModelEvent]:
    """List the steps, the last one first."""
    return session.scalars(select(ModelEvent).order_by(ModelEvent.id.desc()).limit(limit)).all()


def last_change(session: Session) -> ModelEvent | None:
    """Give the last step that changed which model is in use."""
    newest = select(ModelEvent).where(ModelEvent.action.in_(_CHANGES))
    return session.scalars(newest.order_by(ModelEvent.id.desc()).limit(1)).first()
