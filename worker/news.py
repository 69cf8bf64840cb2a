"""Whether a report is news to those who are told at once; owed as it is saved.

What is positive is what the worklist shows as PRESENT, and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from worker import ledger
from worker.ledger import Told
from worker.results import details_of, told_of
from worker.states import Finding
from worker.tables import Base
from worker.worklist import known_of, line_of

studies = Base.metadata.tables["studies"]


def owe_notices(session: Session, study_id: int, targets: Collection[str], now: datetime) -> bool:
    """Owe each target what it does not know yet of a study whose row is held; tell if any."""
    if not targets:
        return False
    return ledger.owe_notices(session, study_id, told(session, study_id), targets, now, new_id)


def told(session: Session, study_id: int) -> Told:
    """Say what is told of a study."""
    rows = session.execute(_STUDY, {"study": study_id}).all()
    (found,) = details_of(session, rows)
    line = line_of(found)
    assessed = {image: row for image, row in known_of(found).items() if row.assessed}
    flags = {flag for row in told_of(found).values() if row.assessed for flag in row.flags}
    details: dict[str, Any] = {
        "pneumonia": line.pneumonia,
        "images": len(found.instances),
        "unassessed": line.unassessed,
        "flags": sorted(flags),
    }
    return Told(
        line.answer,
        details,
        positive=frozenset(i for i, row in assessed.items() if row.finding == Finding.PRESENT),
        unassessed=frozenset(row.id for row in found.instances) - assessed.keys(),
    )


def new_id() -> str:
    """Give an id of chance: as long as HL7 lets MSH-10 be, and never the same twice."""
    return secrets.token_hex(10)


_STUDY = select(studies).where(studies.c.id == bindparam("study"))
