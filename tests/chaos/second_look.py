"""A person has studies assessed anew, as `cxr-worker requeue` does."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker import ledger
from worker.database import build_engine
from worker.tables import Report, Study

AT_ONCE = 6
REASON = "another version of the model is chosen"


def assess_anew(database_url: str, number: int) -> int:
    """Requeue some of the studies that have a report; which ones is a matter of the number."""
    engine = build_engine(database_url)
    try:
        with Session(engine) as session:
            where = Study.id.in_(select(Report.study_id))
            uids = sorted(session.scalars(select(Study.study_instance_uid).where(where)))
        chosen = {uids[(number + k) % len(uids)] for k in range(AT_ONCE)} if uids else set()
        for uid in sorted(chosen):
            with Session(engine) as session, session.begin():
                ledger.requeue(session, uid, datetime.now(UTC), REASON, "chaos")
        return len(chosen)
    finally:
        engine.dispose()
