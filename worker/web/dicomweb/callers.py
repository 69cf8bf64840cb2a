"""Who asks by DICOMweb: the user whose token a request bears, or who has signed in to the pages.

A viewer that is served beside the pages, under the same name, needs no token: the browser sends
the session along. What changes anything then needs the token of a form as well, so that no page of
another site can have a browser store in somebody's name.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from worker.access.roles import Identity
from worker.access.sessions import is_csrf_token
from worker.web.api.bearer import identify
from worker.web.gate import CSRF_HEADER, SignInNeeded, identity_of, session_token

_SAFE: Final = ("GET", "HEAD")


class Guarded(APIRoute):
    """A route that asks who it is before it reads anything else of a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Give what answers a request."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.caller = await run_in_threadpool(_identify, request)
            return await answer(request)

        return guarded


def _identify(request: Request) -> Identity:
    """Say who asks.

    Raises
    ------
    HTTPException
        401, 403 or 429.
    """
    if "authorization" in request.headers or not session_token(request):
        return identify(request)
    try:
        caller = identity_of(request)
    except SignInNeeded:
        words = "Sign in to the pages again, or send a token: Authorization: Bearer cxr_..."
        raise HTTPException(401, words, {"WWW-Authenticate": "Bearer"}) from None
    given = request.headers.get(CSRF_HEADER, "")
    if request.method not in _SAFE and not is_csrf_token(session_token(request), given):
        raise HTTPException(403, f"In a session this needs {CSRF_HEADER}; or send a token.")
    return caller
