"""What the API says when something is wrong: problem details, never a traceback.

References
----------
RFC 9457
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from dicom_node.errors import ConfigurationError
from worker.audit.trail import NotRecorded

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
# Of a name that somebody made up, this much is said back.
_LONGEST_NAME: Final = 64


class Wrong(BaseModel):
    """A parameter that is not understood."""

    where: str = Field(description="query, path or body")
    name: str = Field(description="of the parameter; empty when the whole body is meant")
    why: str = Field(description="what it must be")


class Problem(BaseModel):
    """What is wrong (RFC 9457)."""

    type: str = Field(description="always about:blank: the status says it")
    title: str = Field(description="the status in words")
    status: int = Field(description="the status of the answer")
    detail: str = Field(description="what is wrong with this request, in a sentence")
    errors: list[Wrong] | None = Field(None, description="with 422: each parameter, and why")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers for OpenAPI, each a problem."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def add_to(api: FastAPI, *, not_understood: int = 422) -> None:
    """Have an application answer with problems.

    Parameters
    ----------
    not_understood
        The status for what a request does not say as it must.
    """
    api.add_exception_handler(HTTPException, _say_what_is_wrong)
    say = partial(_say_what_is_not_understood, status=not_understood)
    api.add_exception_handler(RequestValidationError, say)
    api.add_exception_handler(DBAPIError, _say_that_the_database_is_away)
    api.add_exception_handler(NotRecorded, _say_that_nothing_can_be_written_down)
    api.add_exception_handler(ConfigurationError, _say_that_it_is_set_up_wrongly)
    api.add_exception_handler(Exception, _say_that_it_failed)


def _say_what_is_wrong(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:  # nobody said more
        detail = _PLAINLY.get(error.status_code, detail)
    return _problem(error.status_code, detail, error.headers)


_PLAINLY: Final = {
    404: "There is nothing of this name; /api/v1/openapi.json and docs/dicomweb.md say what is.",
    405: "This cannot be done here; Allow says what can.",
}


def _say_what_is_not_understood(_request: Request, error: Exception, status: int) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [_wrong(each) for each in error.errors()]
    detail = "; ".join(f"{each.name or each.where}: {each.why}" for each in wrong)
    return _problem(status, detail, errors=[each.model_dump() for each in wrong])


def _wrong(error: Mapping[str, Any]) -> Wrong:
    """Say what is wrong with a parameter, without what was given for it."""
    where, *names = error["loc"]
    name = ".".join(each for each in names if isinstance(each, str))
    # Half a pair of surrogates is a name in JSON, but no text that can be sent.
    spelled = name[:_LONGEST_NAME].encode(errors="replace").decode()
    return Wrong(where=str(where), name=spelled, why=str(error["msg"]))


def _say_that_the_database_is_away(_request: Request, error: Exception) -> Response:
    log.warning("a request failed: the database: %s", type(error).__name__)
    return _problem(503, "The database cannot be reached just now; try again soon.")


def _say_that_nothing_can_be_written_down(_request: Request, error: Exception) -> Response:
    """What cannot be written into the audit trail is not shown."""
    log.error("a request failed: %s", error)
    return _problem(503, "The audit trail cannot be written; without it nothing is shown.")


def _say_that_it_is_set_up_wrongly(_request: Request, error: Exception) -> Response:
    log.error("a request failed: %s", error)
    return _problem(503, "The server is not set up for this just now; its log says why.")


def _say_that_it_failed(_request: Request, error: Exception) -> Response:
    log.error("a request failed: %s", type(error).__name__)
    return _problem(500, "This is a fault of the server; its log says more.")


def _problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[dict[str, Any]] = (),
) -> Response:
    told: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        told["errors"] = list(errors)
    return JSONResponse(told, status, headers, MEDIA_TYPE)
