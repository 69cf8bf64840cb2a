"""Who asks the API: the user whose token a request bears. Cookies do not count.

So no page of another site can have a browser ask in somebody's name, and forms need no token here.

References
----------
RFC 6750
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from worker.access.roles import Identity, Role
from worker.audit.schema import Outcome
from worker.web import audited
from worker.web.doors import TooManyTries
from worker.web.gate import services_of

# What no user can be called: who bears a wrong token is not known.
STRANGER: Final = "(token)"
# For OpenAPI alone: a request is looked at before its body is read.
SCHEME: Final = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token by `cxr-worker token add`."
)
_WAIT_S: Final = 60


class Guarded(APIRoute):
    """A route that asks who it is before it reads anything else of a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give what answers a request."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.caller = await run_in_threadpool(identify, request)
            return await answer(request)

        return guarded


def caller_of(request: Request) -> Identity:
    """Say who asks."""
    caller: Identity = request.state.caller
    return caller


Caller = Annotated[Identity, Depends(caller_of)]


def at_least(role: Role) -> Callable[[Request, Identity], Identity]:
    """Make a dependency that lets a role and those above it pass."""

    def check(request: Request, caller: Caller) -> Identity:
        if not caller.role.allows(role):
            audited.refused(services_of(request), request, caller)
            raise HTTPException(403, f"This needs the role {role.value}.")
        return caller

    return check


def identify(request: Request) -> Identity:
    """Say whose token a request bears.

    Raises
    ------
    HTTPException
        401 without a token that is taken; 429 after too many of those.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise _not_let_in("Send a token: Authorization: Bearer cxr_...", "Bearer")
    services = services_of(request)
    address = request.client.host if request.client else ""
    try:
        caller = services.doors.identify_program(token.strip(), address)
    except TooManyTries:
        if services.doors.strangers.is_news(address):
            audited.signed_in(services, request, STRANGER, Outcome.SERIOUS_FAILURE)
        wait = {"Retry-After": str(_WAIT_S)}
        words = "There were too many wrong tokens; wait a minute."
        raise HTTPException(429, words, wait) from None
    if caller is None:
        audited.signed_in(services, request, STRANGER, Outcome.MINOR_FAILURE)
        words = "This token is not taken: it is wrong, revoked or too old, or its user is disabled."
        raise _not_let_in(words, 'Bearer error="invalid_token"')
    return caller


def _not_let_in(words: str, challenge: str) -> HTTPException:
    return HTTPException(401, words, {"WWW-Authenticate": challenge})
