"""Who asks, and whether they may: what the routes depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from worker.access.roles import Identity, Role
from worker.access.sessions import csrf_token, is_csrf_token
from worker.web import audited
from worker.web.services import Services

# With this prefix a browser takes a cookie by TLS alone, and for this very host (RFC 6265bis).
_SECURE: Final = "__Host-"
_COOKIE: Final = "cxr-session"
CSRF_HEADER: Final = "X-CSRF-Token"


class SignInNeeded(Exception):
    """Nobody has signed in, or did so too long ago."""


def services_of(request: Request) -> Services:
    """Give what the pages work with."""
    services: Services = request.app.state.services
    return services


def session_token(request: Request) -> str:
    """Give the token of the session that a request belongs to; "" when it has none."""
    return request.cookies.get(name_of_cookie(request, _COOKIE), "")


def identity_of(request: Request) -> Identity:
    """Say who asks.

    Raises
    ------
    SignInNeeded
        When nobody has signed in.
    """
    return _identity_of(request, is_used=True)


def watcher_of(request: Request) -> Identity:
    """Say for whom a page asks by itself, which does not keep a session from growing old.

    Raises
    ------
    SignInNeeded
        When nobody has signed in, or did anything for too long.
    """
    return _identity_of(request, is_used=False)


def _identity_of(request: Request, *, is_used: bool) -> Identity:
    token, doors = session_token(request), services_of(request).doors
    identity = doors.identify(token, is_used=is_used) if token else None
    if identity is None:
        raise SignInNeeded
    return identity


Whoever = Annotated[Identity, Depends(identity_of)]
Watcher = Annotated[Identity, Depends(watcher_of)]
Given = Annotated[Services, Depends(services_of)]


def at_least(role: Role) -> Callable[[Request, Identity], Identity]:
    """Make a dependency that lets a role and those above it pass."""

    def check(request: Request, identity: Whoever) -> Identity:
        if not identity.role.allows(role):
            audited.refused(services_of(request), request, identity)
            raise HTTPException(403, f"This needs the role {role.value}.")
        return identity

    return check


async def sent_by_our_page(request: Request) -> None:
    """Refuse what another site made a browser send: a form of ours holds a token of its session.

    Raises
    ------
    HTTPException
        403.
    """
    form = await request.form()
    given = request.headers.get(CSRF_HEADER) or str(form.get("csrf", ""))
    if not is_csrf_token(session_token(request), given):
        raise HTTPException(403, "This form is out of date; go back, reload and send it again.")


def form_token(request: Request) -> str:
    """Give the token that a form of ours holds; "" before a sign-in."""
    token = session_token(request)
    return csrf_token(token) if token else ""


def let_in(request: Request, response: Response, token: str) -> None:
    """Have the browser keep a session, until it is closed."""
    response.set_cookie(
        name_of_cookie(request, _COOKIE), token, httponly=True, samesite="strict",
        secure=has_come_by_tls(request),
    )  # fmt: skip


def let_out(request: Request, response: Response) -> None:
    """Have the browser forget its session."""
    forget(request, response, _COOKIE, samesite="strict")


def forget(
    request: Request, response: Response, cookie: str, samesite: Literal["lax", "strict"]
) -> None:
    """Have the browser forget a cookie of ours."""
    response.delete_cookie(
        name_of_cookie(request, cookie), httponly=True, samesite=samesite,
        secure=has_come_by_tls(request),
    )  # fmt: skip


def ask_to_sign_in(request: Request, _error: Exception) -> Response:
    """Lead to the sign-in, and from there back to the page that was asked for."""
    if request.method != "GET" or "image" in request.headers.get("sec-fetch-dest", ""):
        return Response("Sign in first.", 401)
    if "HX-Request" in request.headers:  # a part of a page: let the whole page go
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/sign-in?to={quote(request.url.path + query)}", 303)


def name_of_cookie(request: Request, name: str) -> str:
    """Give the name by which a browser keeps a cookie of ours."""
    return f"{_SECURE}{name}" if has_come_by_tls(request) else name


def has_come_by_tls(request: Request) -> bool:
    """Tell whether a request came by TLS, to here or to a proxy that is trusted."""
    return request.url.scheme == "https"
