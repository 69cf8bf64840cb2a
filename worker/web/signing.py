"""Signing in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from worker.access.roles import LOCAL, Identity
from worker.audit.schema import Outcome
from worker.oidc.paths import SIGNED_OUT, START
from worker.web import audited
from worker.web.doors import TooManyTries
from worker.web.gate import Given, Whoever, let_in, let_out, sent_by_our_page, session_token
from worker.web.services import Services
from worker.web.templates import render

router = APIRouter()

_WRONG = "Name and password do not belong together, or the account is disabled."
_SLOWLY = "There were too many tries; wait a minute."


@router.get("/sign-in")
def ask(request: Request, services: Given, to: str = "/", token: str = "") -> Response:
    """Ask who it is; a link with the first token, which a new machine prints, says it already."""
    if not token:
        return form(request, services, to)
    address = address_of(request)
    return _try(request, services, LOCAL, to, lambda: services.doors.sign_in_first(token, address))


@router.post("/sign-in")
def sign_in(
    request: Request,
    services: Given,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
    to: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Let somebody in."""
    address = address_of(request)
    return _try(
        request, services, name, to, lambda: services.doors.sign_in(name, password, address)
    )


def address_of(request: Request) -> str:
    """Give the address of a browser."""
    return request.client.host if request.client else ""


def _try(
    request: Request,
    services: Services,
    name: str,
    to: str,
    sign_in: Callable[[], tuple[Identity, str] | None],
) -> Response:
    """Try to let somebody in; of those who try too often only the first is written down."""
    try:
        opened = sign_in()
    except TooManyTries:
        if services.doors.attempts.is_news(address_of(request)):
            audited.signed_in(services, request, name, Outcome.SERIOUS_FAILURE)
        return form(request, services, to, _SLOWLY, 429)
    return _let_in(request, services, opened, to, name)


@router.post("/sign-out", dependencies=[Depends(sent_by_our_page)])
def sign_out(request: Request, services: Given, who: Whoever) -> Response:
    """Let somebody out."""
    services.doors.sign_out(session_token(request))
    audited.signed_out(services, request, who)
    is_known_there = services.elsewhere is not None and services.doors.is_vouched_for(who)
    answer = RedirectResponse(SIGNED_OUT if is_known_there else "/sign-in", 303)
    let_out(request, answer)
    return answer


def _let_in(
    request: Request,
    services: Services,
    opened: tuple[Identity, str] | None,
    to: str,
    name: str,
) -> Response:
    outcome = Outcome.MINOR_FAILURE if opened is None else Outcome.SUCCESS
    audited.signed_in(services, request, name, outcome)
    if opened is None:
        return form(request, services, to, _WRONG, 401)
    if before := session_token(request):
        services.doors.sign_out(before)
    answer = RedirectResponse(inside(to), 303)
    let_in(request, answer, opened[1])
    return answer


def form(
    request: Request, services: Services, to: str, problem: str = "", status: int = 200
) -> Response:
    """Ask who it is, after saying what went wrong, if anything did."""
    elsewhere = services.elsewhere
    shown = {
        "to": inside(to),
        "problem": problem,
        "has_admin": services.doors.has_admin(),
        "elsewhere": elsewhere and elsewhere.name,
        "start": f"{START}?to={quote(inside(to), safe='')}",
    }
    return render(request, "sign-in.html", shown, status=status)


def inside(path: str) -> str:
    """Give a path of ours; anything else leads to the beginning (it might lead elsewhere)."""
    # Browsers leave out tabs and line breaks, and go to //elsewhere.
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
