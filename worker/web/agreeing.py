"""The page that shows how often readers agree with the models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from worker.agreement import agreement, last_months
from worker.states import Verdict
from worker.web.gate import Given, Whoever
from worker.web.templates import render

router = APIRouter()


@router.get("/agreement")
def page(
    request: Request,
    services: Given,
    who: Whoever,
    months: Annotated[int, Query(ge=1, le=120)] = 12,
) -> Response:
    """Show by model and month what readers say; it names nobody."""
    now = services.desk.clock()
    with services.reading() as session:
        models = agreement(session, now, months)
    shown = {
        "models": models, "months": months, "shown_months": list(last_months(now, months)),
        "verdicts": list(Verdict),
    }  # fmt: skip
    return render(request, "agreement.html", shown, who)
