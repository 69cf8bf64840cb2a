"""Puts DICOMweb together, as an application of its own below the pages."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from worker.settings import Settings
from worker.web.api import problems
from worker.web.dicomweb import frames, rendered, retrieve, search, store
from worker.web.services import Services

PATH: Final = "/dicom-web"
STORE: Final = f"{PATH}/studies"
_DAY_S: Final = 86400


def longest(settings: Settings) -> int:
    """Give how many bytes a request to store may bring."""
    return settings.dicomweb_store_mb * 1_000_000


def build(services: Services) -> FastAPI:
    """Build the application that stands at `PATH`.

    Pages of CXR_DICOMWEB_ORIGINS may read with a token. Cookies are not for them, and nothing is
    taken from them.
    """
    web = FastAPI(
        title="cxr-worker DICOMweb",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    web.state.services = services
    origins = services.desk.settings.dicomweb_origins
    if origins:
        web.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET"],
            allow_headers=["Authorization", "Accept"],
            expose_headers=["Warning", "Content-Location"],
            max_age=_DAY_S,
        )
    for part in (search, retrieve, frames, rendered, store):
        web.include_router(part.router)
    problems.add_to(web, not_understood=400)
    return web
