"""The page of a model's life: the candidate beside the model in use, drift, and every step."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from dicom_node.errors import PacsWorkerError
from worker.comparing import BARS, OUTCOMES, SHOWN, compare, outcome
from worker.drift import FEWEST, Window, over_time
from worker.ledger.model_events import events
from worker.ledger.populations import model_of
from worker.telling_models import RULE
from worker.web import audited
from worker.web.gate import Given, Whoever
from worker.web.services import Services
from worker.web.templates import render

router = APIRouter()

# How many steps are shown, and how much longer than the time that is looked at the one before is.
_STEPS, _BASELINE = 50, 4


@router.get("/candidate")
def page(
    request: Request,
    services: Given,
    who: Whoever,
    days: Annotated[int, Query(ge=1, le=366)] = 14,
) -> Response:
    """Show what a candidate would have said, on which studies, and how the population drifts."""
    audited.searched(services, request, who, {"page": "candidate"})
    with services.reading() as session:
        shown = {
            "found": compare(session), "steps": events(session, _STEPS),
            **_drift(services, session, days),
        }  # fmt: skip
    shown |= {
        "days": days, "baseline_days": days * _BASELINE, "outcomes": OUTCOMES, "bars": BARS,
        "most_shown": SHOWN, "fewest": FEWEST, "rule": RULE, "outcome": outcome,
    }  # fmt: skip
    return render(request, "candidate.html", shown, who)


def _drift(services: Services, session: Session, days: int) -> dict[str, Any]:
    """Give the model in use and the drift as it sees it; None where it cannot be told."""
    try:
        info = services.model_info()
    except PacsWorkerError:
        return {"info": None, "drift": None}
    row = model_of(session, info.digest)
    if row is None:
        return {"info": info, "drift": None}
    now = services.desk.clock()
    window = Window(now - timedelta(days=days), now)
    baseline = Window(window.since - timedelta(days=days * _BASELINE), window.since)
    return {"info": info, "drift": over_time(session, row.id, window, baseline)}
