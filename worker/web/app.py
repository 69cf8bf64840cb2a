"""Puts the web together: routes, what stands before them, and what is said when one fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.routing import Mount

from worker.audit.trail import NotRecorded
from worker.database import DATABASE_AWAY
from worker.web import agreeing, images, judging, pages, signing, trying
from worker.web.api import app as api
from worker.web.dicomweb import app as dicomweb
from worker.web.gate import SignInNeeded, ask_to_sign_in
from worker.web.headers import SafeAnswers
from worker.web.services import Services
from worker.web.templates import STATIC, render

log = logging.getLogger(__name__)


def build(services: Services, hosts: Collection[str], *, tls_only: bool = False) -> FastAPI:
    """Build the application.

    Parameters
    ----------
    hosts
        Names that it answers to.
    tls_only
        Whether to refuse what did not come by TLS, to here or to a proxy that is trusted.
    """
    app = FastAPI(title="cxr-worker", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    uploads = {dicomweb.STORE: dicomweb.longest(services.desk.settings)}
    app.add_middleware(SafeAnswers, hosts=hosts, tls_only=tls_only, uploads=uploads)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.router.routes.append(_whole(Mount(api.PATH, api.build(services), name="api")))
    app.router.routes.append(
        _whole(Mount(dicomweb.PATH, dicomweb.build(services), name="dicomweb"))
    )
    for part in (signing, pages, images, judging, agreeing, trying):
        app.include_router(part.router)
    if services.elsewhere is not None:
        from worker.web import arriving  # and with it what few need: authlib and httpx

        app.include_router(arriving.router)
    app.add_exception_handler(SignInNeeded, ask_to_sign_in)
    app.add_exception_handler(HTTPException, _say_what_is_wrong)
    app.add_exception_handler(RequestValidationError, _say_what_is_not_understood)
    for away in DATABASE_AWAY:
        app.add_exception_handler(away, _say_that_the_database_is_away)
    app.add_exception_handler(NotRecorded, _say_that_nothing_can_be_written_down)
    return app


def _whole(mount: Mount) -> Mount:
    """Have all below a path go there; of itself, Starlette leaves out what has a line break."""
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


def _say_what_is_wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, str(error.detail), error.status_code)


def _say_what_is_not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = ", ".join(str(each["loc"][-1]) for each in error.errors())
    return _page(request, f"This is not understood: {fields}.", 422)


def _say_that_the_database_is_away(request: Request, error: Exception) -> Response:
    log.warning("a page failed: the database: %s", type(error).__name__)
    return _page(request, "The database cannot be reached just now; try again soon.", 503)


def _say_that_nothing_can_be_written_down(request: Request, error: Exception) -> Response:
    """What cannot be written into the audit trail is not shown."""
    log.error("a page failed: %s", error)
    return _page(request, "The audit trail cannot be written; without it nothing is shown.", 503)


def _page(request: Request, words: str, status: int) -> Response:
    return render(request, "problem.html", {"words": words}, status=status)
