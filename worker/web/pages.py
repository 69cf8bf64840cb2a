"""Pages: the worklist, a study, the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field, field_validator

from worker import chart, given_up
from worker.access.roles import Identity, Role
from worker.describing import facts_of
from worker.reading import ArchiveAway, FileGone, read_header
from worker.report_text import TextLine, text_of
from worker.states import StudyState
from worker.web import audited
from worker.web.gate import Given, Watcher, Whoever, at_least, sent_by_our_page
from worker.web.services import Services
from worker.web.templates import render
from worker.worklist import Answer, Order, Wanted, page

router = APIRouter()

# The most urgent are looked for among the studies of so many days, where no day is named.
_URGENT_DAYS: Final = 1


class Filters(BaseModel):
    """What the form of the worklist may say; what is empty does not narrow.

    Days are days of this machine's time zone.
    """

    words: str = ""
    state: StudyState | None = None
    answer: Answer | None = None
    begin: datetime | None = None
    end: datetime | None = None
    order: Order = Order.NEWEST

    @field_validator("state", "answer", "begin", "end", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    def wanted(self, now: datetime) -> Wanted:
        """Say what is looked for."""
        since, until = _midnight(self.begin), _midnight(self.end)
        if self.order is Order.URGENT and since is None and not self.words:
            since = now - timedelta(days=_URGENT_DAYS)
        if until is not None:
            until += timedelta(days=1)
        return Wanted(self.words, self.state, self.answer, since, until, self.order)


def _midnight(day: datetime | None) -> datetime | None:
    return None if day is None else datetime.combine(day.date(), time()).astimezone()


class Place(Filters):
    """Where a page of the worklist begins, and what of it the browser shows already."""

    start: int = Field(0, ge=0, le=1_000_000)
    seen: str = ""

    def given(self) -> dict[str, str]:
        """Give what narrows it, in words."""
        told = self.model_dump(mode="json", exclude={"seen"}, exclude_defaults=True)
        return {name: str(value) for name, value in told.items()}


AtPlace = Annotated[Place, Query()]


@router.get("/")
def worklist(request: Request, services: Given, who: Whoever, place: AtPlace) -> Response:
    """Show a page of the worklist."""
    audited.searched(services, request, who, place.given())
    choices = {"answers": list(Answer), "states": list(StudyState), "orders": list(Order)}
    return render(request, "worklist.html", _rows(services, place) | choices, who)


@router.get("/rows")
def rows(request: Request, services: Given, who: Watcher, place: AtPlace) -> Response:
    """Show the lines of a page again, if any has changed."""
    shown = _rows(services, place)
    if place.seen == shown["seen"]:
        return Response(status_code=204)
    return render(request, "rows.html", shown, who)


def _rows(services: Services, place: Place) -> dict[str, Any]:
    with services.reading() as session:
        found = page(session, place.wanted(services.desk.clock()), place.start)
    told = "|".join(
        f"{line.found.study.id} {line.found.study.state} {line.answer} {line.pneumonia} "
        f"{line.unassessed} {len(line.found.instances)}"
        for line in found.lines
    )
    seen = sha256(f"{found.following} {told}".encode()).hexdigest()[:16]
    return {"page": found, "filters": place, "start": place.start, "seen": seen}


@router.get("/studies/{uid}")
def study(request: Request, services: Given, who: Whoever, uid: str) -> Response:
    """Show a study."""
    with services.reading() as session:
        found = chart.chart(session, uid)
    if found is None:
        raise HTTPException(404, "No such study is here.")
    audited.viewed(services, request, who, found)
    text, problem = _report_text(services, found)
    may_judge = who.role.allows(Role.READER)
    shown = {"chart": found, "text": text, "problem": problem, "may_judge": may_judge}
    return render(request, "study.html", shown, who)


def _report_text(services: Services, found: chart.Chart) -> tuple[list[TextLine], str]:
    """Read the last report; say what is the matter when it cannot be read."""
    reports = found.line.found.reports
    if not reports:
        return [], ""
    try:
        return text_of(read_header(services.desk.archive, reports[-1].path)), ""
    except ArchiveAway as error:
        return [], f"The archive cannot be read just now ({error})."
    except FileGone as error:
        return [], f"The report {error}."


@router.post("/studies/{uid}/requeue", dependencies=[Depends(sent_by_our_page)])
def requeue(
    request: Request,
    services: Given,
    who: Annotated[Identity, Depends(at_least(Role.ADMIN))],
    uid: str,
    reason: Annotated[str, Form(min_length=1, max_length=500)],
) -> Response:
    """Do a study again."""
    with services.reading() as session:
        found = chart.chart(session, uid)
    if found is None:
        raise HTTPException(404, "No such study is here.")
    audited.acted(services, request, who, found, "requeue")
    list(given_up.requeue(services.desk, [uid], reason.strip(), services.announce, who.name))
    return RedirectResponse(f"/studies/{uid}", 303)


@router.get("/model")
def model(request: Request, services: Given, who: Whoever) -> Response:
    """Show what the model says of itself that answers now."""
    info = services.model_info()
    shown: Mapping[str, Any] = {"info": info, "facts": facts_of(info), "card": info.card}
    return render(request, "model.html", shown, who)
