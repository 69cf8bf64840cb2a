"""Puts the API together, as an application of its own below the pages."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from worker.describing import model_record
from worker.web.api import problems, studies
from worker.web.api.bearer import SCHEME, Caller, Guarded
from worker.web.api.problems import Problem, described
from worker.web.api.records import ModelRecord
from worker.web.gate import Given
from worker.web.services import Services

PATH: Final = "/api/v1"
_ABOUT: Final = (
    "Studies with their findings, reports and deliveries. For research use, not for primary "
    "diagnosis. Ask with the token of a user (`cxr-worker token add`); what is asked for is "
    "written to the audit trail."
)

model_router = APIRouter(tags=["model"], route_class=Guarded)


@model_router.get("/model", response_model=ModelRecord)
def model(services: Given, caller: Caller) -> Response:  # noqa: ARG001 - whoever it is
    """Give facts, thresholds and figures of the model that answers now."""
    return JSONResponse(model_record(services.model_info()))


def build(services: Services) -> FastAPI:
    """Build the application that stands at `PATH`.

    Its description says what it can do and holds no data, so that it needs no token.
    """
    api = FastAPI(
        title="cxr-worker",
        version="1",
        description=_ABOUT,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.services = services
    for router in (studies.router, model_router):
        api.include_router(
            router, dependencies=[Depends(SCHEME)], responses=described(401, 422, 429, 500, 503)
        )
    problems.add_to(api)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign]
    return api


def _openapi(api: FastAPI) -> dict[str, Any]:
    """Describe the application, with the form that problems have."""
    if api.openapi_schema is None:
        told = get_openapi(
            title=api.title, version=api.version, description=_ABOUT, routes=api.routes
        )
        form = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        told["components"]["schemas"].update(form.pop("$defs"), Problem=form)
        api.openapi_schema = told
    return api.openapi_schema
