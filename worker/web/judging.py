"""What readers say of an answer: one form for each image, sent by a button or a key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field, field_validator

from worker import chart, ledger
from worker.access.roles import Identity, Role
from worker.states import Finding, Label
from worker.verdicts import Judged, NotAnAnswer, Says, judge
from worker.web import audited
from worker.web.gate import Given, at_least, sent_by_our_page
from worker.web.services import Services
from worker.web.templates import render

router = APIRouter()

_ANEW = "The image was answered anew meanwhile; load its page again, and look again."


class Words(BaseModel):
    """What the form holds.

    Attributes
    ----------
    model, finding : int, Finding or None
        Whose answer the page showed, and which.
    kind : Label or None
        Of the pneumonia, if the reader sees one.
    """

    model: int = Field(ge=1, lt=2**63)
    finding: Finding | None = None
    says: Says
    kind: Label | None = None
    comment: str = Field("", max_length=500)

    @field_validator("finding", "kind", mode="before")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("comment")
    @classmethod
    def _is_text(cls, value: str) -> str:
        return value.replace("\0", "").strip()


@router.post(
    "/studies/{uid}/images/{sop_instance_uid}/verdict", dependencies=[Depends(sent_by_our_page)]
)
def verdict(
    request: Request,
    services: Given,
    who: Annotated[Identity, Depends(at_least(Role.READER))],
    uid: str,
    sop_instance_uid: str,
    words: Annotated[Words, Form()],
) -> Response:
    """Save what a reader says of an image; a part of the page where its script asked for it."""
    found, number = _shown(services, uid, sop_instance_uid)
    try:
        judged = judge(words.finding, words.says, words.kind)
    except NotAnAnswer as error:
        raise HTTPException(422, f"This is not understood: {error}.") from error
    what = f"verdict: {words.says.value} on image {sop_instance_uid}"
    audited.acted(services, request, who, found, what)
    _save(services, uid, _new(sop_instance_uid, words, judged, who))
    if "HX-Request" not in request.headers:
        return RedirectResponse(
            f"/studies/{uid}#judged-{found.images[number - 1].instance.id}", 303
        )
    found, number = _shown(services, uid, sop_instance_uid)
    return render(request, "verdicts.html", {"shown": found.images[number - 1]}, who)


def _shown(services: Services, uid: str, sop_instance_uid: str) -> tuple[chart.Chart, int]:
    """Find a study, and the number of an image in it, from 1."""
    with services.reading() as session:
        found = chart.chart(session, uid)
    for number, each in enumerate(found.images if found else (), 1):
        if each.instance.sop_instance_uid == sop_instance_uid:
            assert found is not None
            return found, number
    raise HTTPException(404, "No such image is here.")


def _new(sop_instance_uid: str, words: Words, judged: Judged, who: Identity) -> ledger.NewVerdict:
    return ledger.NewVerdict(
        sop_instance_uid, words.model, words.finding, judged.verdict, judged.label, words.comment,
        who.name,
    )  # fmt: skip


def _save(services: Services, uid: str, new: ledger.NewVerdict) -> None:
    with services.desk.sessions() as session, session.begin():
        if not ledger.save_verdict(session, uid, new, services.desk.clock()):
            raise HTTPException(409, _ANEW)
