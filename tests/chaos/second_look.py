"""A person has studies assessed anew, as `cxr-worker requeue` does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker import ledger
from worker.database import build_engine
from worker.tables import Notice, Report, Study

AT_ONCE = 3
REASON = "another version of the model is chosen"


def assess_anew(database_url: str, number: int) -> int:
    """Requeue some studies that gave cause for a notice, and some that have a report."""
    engine = build_engine(database_url)
    try:
        with Session(engine) as session:
            chosen = {*_some(session, Notice, number), *_some(session, Report, number)}
        for uid in sorted(chosen):
            with Session(engine) as session, session.begin():
                ledger.requeue(session, uid, datetime.now(UTC), REASON, "chaos")
        return len(chosen)
    finally:
        engine.dispose()


def _some(session: Session, of: type[Notice | Report], number: int) -> Iterator[str]:
    """Give some studies that have rows of a kind; which ones is a matter of the number."""
    where = Study.id.in_(select(of.study_id))
    uids = sorted(session.scalars(select(Study.study_instance_uid).where(where)))
    yield from (uids[(number + k) % len(uids)] for k in range(AT_ONCE) if uids)
