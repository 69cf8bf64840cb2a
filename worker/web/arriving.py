"""Signing in by a provider: the way there, and the way back.

The way there is a link and no form: a form of ours may lead nowhere else (form-action).
"""

from __future__ import annotations

import logging
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from worker.access.attempts import Attempts
from worker.access.errors import AccessError
from worker.access.vouched import Vouched
from worker.audit.schema import Outcome
from worker.oidc.elsewhere import Elsewhere
from worker.oidc.errors import NotVouched, ProviderAway
from worker.oidc.fetching import error_word
from worker.oidc.paths import BACK, SIGNED_OUT, START
from worker.oidc.transaction import LASTS, Transaction
from worker.web import audited
from worker.web.gate import (
    Given,
    forget,
    has_come_by_tls,
    let_in,
    name_of_cookie,
    session_token,
)
from worker.web.services import Services
from worker.web.signing import address_of, form, inside
from worker.web.templates import render

log = logging.getLogger(__name__)
router = APIRouter()

_COOKIE: Final = "cxr-signing-in"
# In the audit trail, before it is proven who it is; no user can be called so.
_SOMEBODY: Final = "(somebody by the provider)"
_AGAIN: Final = "This sign-in was not begun here, or too long ago, or is over; begin again."
_SLOWLY: Final = "There were too many tries; wait a minute."
_AWAY: Final = (
    "{} cannot be asked just now, so nobody can be signed in by it. Try again in a minute; if that "
    "does not help, tell who looks after this machine: cxr-worker doctor says what is wrong."
)
_NOT_PROVEN: Final = (
    "{} did not prove who you are. Begin again; if that does not help, tell who looks after this "
    "machine: the log says why."
)


def elsewhere_of(services: Given) -> Elsewhere:
    """Give what lets people sign in by a provider; without it there are no such pages."""
    assert services.elsewhere is not None
    return services.elsewhere


There = Annotated[Elsewhere, Depends(elsewhere_of)]


@router.get(START)
def begin(
    request: Request, services: Given, elsewhere: There, to: str = "/", again: bool = False
) -> Response:
    """Send a browser to the provider, once it has come by the address to which it is sent back."""
    if (wrong := _other_origin(request, elsewhere.origin)) is not None:
        if again:
            raise HTTPException(
                500, f"CXR_WEB_URL is {elsewhere.origin}, but this came as {wrong}: correct it, or "
                "have the proxy keep Host and set X-Forwarded-Proto.",
            )  # fmt: skip
        return RedirectResponse(
            f"{elsewhere.origin}{START}?again=true&to={quote(inside(to), safe='')}", 303
        )
    try:
        transaction, address = elsewhere.begin(inside(to))
    except ProviderAway as error:
        return _away(request, services, elsewhere, to, error)
    if before := session_token(request):  # it does not come along on the way back
        services.doors.sign_out(before)
    answer = RedirectResponse(address, 303)
    # Lax: the way back begins on a page of the provider's, and a strict one would stay behind.
    answer.set_cookie(
        name_of_cookie(request, _COOKIE), transaction.cookie, max_age=int(LASTS.total_seconds()),
        httponly=True, samesite="lax", secure=has_come_by_tls(request),
    )  # fmt: skip
    return answer


@router.get(BACK)
def come_back(
    request: Request,
    services: Given,
    elsewhere: There,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4096)] = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Let in who comes back from the provider, in the browser in which they began."""
    transaction = elsewhere.read(request.cookies.get(name_of_cookie(request, _COOKIE), ""))
    if transaction is None or not transaction.is_state(state):
        answer = _stray(request, services, elsewhere)
    elif not _may_try(request, services, elsewhere.attempts):
        answer = form(request, services, transaction.to, _SLOWLY, 429)
    elif error or not code:
        answer = _refused(request, services, transaction, error)
    else:
        answer = _redeem(request, services, elsewhere, transaction, (code, iss))
    forget(request, answer, _COOKIE, samesite="lax")
    return answer


@router.get(SIGNED_OUT)
def signed_out(request: Request, elsewhere: There) -> Response:
    """Say that it is over here, and offer to end it at the provider."""
    shown = {"name": elsewhere.name, "farewell": elsewhere.farewell()}
    return render(request, "signed-out.html", shown)


def _other_origin(request: Request, origin: str) -> str | None:
    """Give by which address a browser came, if by another than the one it is sent back to."""
    came = f"{request.url.scheme}://{request.headers.get('host', '').lower()}"
    return None if came == origin else came


def _may_try(request: Request, services: Services, attempts: Attempts) -> bool:
    """Tell whether somebody may try now; of those who try too often the first is written down."""
    address = address_of(request)
    if attempts.may_try("", address):
        return True
    if attempts.is_news(address):
        audited.signed_in(services, request, _SOMEBODY, Outcome.SERIOUS_FAILURE)
    return False


def _stray(request: Request, services: Services, elsewhere: Elsewhere) -> Response:
    """Answer a browser that comes back from nothing it began."""
    if not _may_try(request, services, elsewhere.strays):
        return form(request, services, "/", _SLOWLY, 429)
    audited.signed_in(services, request, _SOMEBODY, Outcome.MINOR_FAILURE)
    return form(request, services, "/", _AGAIN, 400)


def _refused(
    request: Request, services: Services, transaction: Transaction, error: str
) -> Response:
    """Answer whom the provider sends back without a code."""
    audited.signed_in(services, request, _SOMEBODY, Outcome.MINOR_FAILURE)
    words = f"The provider let nobody in: {error_word({'error': error})}."
    return form(request, services, transaction.to, words, 401)


def _redeem(
    request: Request,
    services: Services,
    elsewhere: Elsewhere,
    transaction: Transaction,
    given: tuple[str, str | None],
) -> Response:
    try:
        who = elsewhere.finish(transaction, *given)
    except ProviderAway as error:
        audited.signed_in(services, request, _SOMEBODY, Outcome.SERIOUS_FAILURE)
        return _away(request, services, elsewhere, transaction.to, error)
    except NotVouched as error:
        log.warning("nobody is signed in by %s: %s", elsewhere.issuer, error)
        audited.signed_in(services, request, _SOMEBODY, Outcome.MINOR_FAILURE)
        words = _NOT_PROVEN.format(elsewhere.name)
        return form(request, services, transaction.to, words, 401)
    elsewhere.attempts.succeeded("", address_of(request))
    return _let_in(request, services, transaction.to, who)


def _let_in(request: Request, services: Services, to: str, who: Vouched) -> Response:
    try:
        arrival, token = services.doors.arrive(
            who, lambda arrival: audited.arrived(services, request, arrival)
        )
    except AccessError:  # disabled in this very moment, or no name is left
        return form(request, services, to, "Your account cannot be used here.", 403)
    if not token:
        return form(request, services, to, arrival.refusal, 403)
    # The session's cookie is strict: a page of ours must lead on, no redirection from elsewhere.
    answer = render(request, "signed-in.html", {"to": quote(inside(to), safe="/?&=%:;,+@!*()~")})
    let_in(request, answer, token)
    return answer


def _away(
    request: Request, services: Services, elsewhere: Elsewhere, to: str, error: ProviderAway
) -> Response:
    log.warning("nobody can be signed in by %s: %s", elsewhere.issuer, error)
    return form(request, services, to, _AWAY.format(elsewhere.name), 502)
