"""Pages: the worklist, a study, the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field, StringConstraints, field_validator
from pydicom import Dataset

from worker import chart, given_up, ledger
from worker.access.roles import Identity, Role
from worker.describing import facts_of
from worker.reading import ArchiveAway, FileGone, read_header
from worker.report_text import order_of, text_of
from worker.states import StudyState
from worker.web import audited
from worker.web.gate import Given, Watcher, Whoever, at_least, sent_by_our_page
from worker.web.services import Services
from worker.web.templates import render
from worker.worklist import Answer, Order, Wanted, page

router = APIRouter()

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]*$"),
]
# A day that there may be studies of.
Day = Annotated[date, Field(ge=date(1900, 1, 1), le=date(2200, 1, 1))]
_UNKNOWN: Final = "No such study is here."
# The most urgent are looked for among the studies of so many days, where no day is named.
_URGENT_DAYS: Final = 1


class Filters(BaseModel):
    """What the form of the worklist may say; what is empty does not narrow.

    Days are days of this machine's time zone.
    """

    words: Annotated[str, StringConstraints(strip_whitespace=True, max_length=256)] = ""
    state: StudyState | None = None
    answer: Answer | None = None
    begin: Day | None = None
    end: Day | None = None
    order: Order = Order.NEWEST

    @field_validator("state", "answer", "begin", "end", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("words")
    @classmethod
    def _is_text(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("has a character that no text has")
        return value

    def wanted(self, now: datetime) -> Wanted:
        """Say what is looked for."""
        since = None if self.begin is None else _midnight(self.begin)
        until = None if self.end is None else _midnight(self.end + timedelta(days=1))
        if self.order is Order.URGENT and not (self.begin or self.end or self.words):
            since = now - timedelta(days=_URGENT_DAYS)
        return Wanted(self.words, self.state, self.answer, since, until, self.order)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()


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
    audited.searched(services, request, who, place.given())  # names patients it did not before
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
    """Show a study, its images as its report numbers them."""
    found = _found(services, uid)
    audited.viewed(services, request, who, found)
    report, problem = _report(services, found)
    if report is not None:
        found = _found(services, uid, order_of(report))
    shown = {
        "chart": found,
        "text": [] if report is None else text_of(report),
        "problem": problem,
        "may_judge": who.role.allows(Role.READER),
    }
    return render(request, "study.html", shown, who)


def _found(services: Services, uid: str, order: Sequence[str] = ()) -> chart.Chart:
    with services.reading() as session:
        found = chart.chart(session, uid, order)
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    return found


def _report(services: Services, found: chart.Chart) -> tuple[Dataset | None, str]:
    """Read the last report; say what is the matter when it cannot be read."""
    reports = found.line.found.reports
    if not reports:
        return None, ""
    if reports[-1].removed_at is not None:
        return None, "The report's file is kept here no longer; the destinations have it."
    try:
        return read_header(services.desk.archive, reports[-1].path), ""
    except ArchiveAway as error:
        return None, f"The archive cannot be read just now ({error})."
    except FileGone as error:
        return None, f"The report cannot be read: {error}."


@router.post("/studies/{uid}/requeue", dependencies=[Depends(sent_by_our_page)])
def requeue(
    request: Request,
    services: Given,
    who: Annotated[Identity, Depends(at_least(Role.ADMIN))],
    uid: str,
    reason: Annotated[Reason, Form()],
    seen: Annotated[int, Form(ge=0, lt=2**63)],
) -> Response:
    """Do a study again, unless somebody else decided so since the page was made."""
    note = audited.acting(services, request, who, "requeue")
    try:
        again = given_up.requeue(
            services.desk, [uid], reason, services.announce, who.name, note, seen=seen
        )
        ((_, owed),) = list(again)
    except ledger.DecidedMeanwhile as error:
        raise HTTPException(409, "Somebody requeued it meanwhile; load the page again.") from error
    if owed is None:
        raise HTTPException(404, _UNKNOWN)
    if not owed:
        raise HTTPException(409, "Nothing is left of this study that could be done again.")
    return RedirectResponse(f"/studies/{uid}", 303)


@router.get("/model")
def model(request: Request, services: Given, who: Whoever) -> Response:
    """Show what the model says of itself that answers now."""
    info = services.model_info()
    shown: Mapping[str, Any] = {"info": info, "facts": facts_of(info), "card": info.card}
    return render(request, "model.html", shown, who)
