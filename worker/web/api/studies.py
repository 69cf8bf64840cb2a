"""Studies: lists of them, one of them, its report, and doing it again."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydicom import dcmread
from sqlalchemy import Row

from worker import given_up
from worker.access.roles import Identity, Role
from worker.listing import Place, find_study, list_studies
from worker.reading import ArchiveAway, FileGone, open_stored
from worker.report_text import TextLine, text_of
from worker.results import Found, study_record
from worker.web import audited
from worker.web.api.asked import Asked, StudyUid, preferred
from worker.web.api.bearer import Caller, Guarded, at_least
from worker.web.api.problems import described
from worker.web.api.records import Owed, Reason, StudyPage, StudyRecord
from worker.web.gate import Given
from worker.web.services import Services

router = APIRouter(prefix="/studies", tags=["studies"], route_class=Guarded)

_UNKNOWN: Final = "No such study is here."
_DICOM, _TEXT = "application/dicom", "text/plain"
_KINDS: Final[dict[str, Any]] = {
    _DICOM: {"schema": {"type": "string", "format": "binary"}},
    _TEXT: {"schema": {"type": "string"}},
}


@router.get("", response_model=StudyPage)
def studies(
    request: Request, services: Given, caller: Caller, asked: Annotated[Asked, Query()]
) -> Response:
    """List studies, the newest first."""
    audited.searched(services, request, caller, asked.given())
    with services.reading() as session:
        found = list_studies(session, asked.criteria(), asked.place(), asked.limit)
    following = found.following and _next(request, found.following)
    page = {"studies": [study_record(each) for each in found.studies], "next": following}
    return JSONResponse(page, headers={"Link": f'<{following}>; rel="next"'} if following else {})


def _next(request: Request, place: Place) -> str:
    """Give the path of the page that begins behind a study."""
    kept = {key: value for key, value in request.query_params.items() if key != "cursor"}
    return f"{request.url.path}?{urlencode(kept | {'cursor': place.cursor()})}"


@router.get("/{uid}", response_model=StudyRecord, responses=described(404))
def study(request: Request, services: Given, caller: Caller, uid: StudyUid) -> Response:
    """Give a study as `cxr-worker results --format json` does."""
    found = _found(services, uid)
    audited.viewed(services, request, caller, found)
    return JSONResponse(study_record(found))


@router.get(
    "/{uid}/report",
    response_class=Response,
    responses={200: {"description": "The report", "content": _KINDS}, **described(404, 406)},
)
def report(request: Request, services: Given, caller: Caller, uid: StudyUid) -> Response:
    """Give the last report of a study: as DICOM, or what it says as text (`Accept: text/plain`)."""
    kind = preferred(request.headers.get("accept", ""), tuple(_KINDS))
    if kind is None:
        raise HTTPException(406, f"A report comes as {' or '.join(_KINDS)}.")
    found = _found(services, uid)
    if not found.reports:
        raise HTTPException(404, "No report was made of this study yet.")
    audited.exported(services, request, caller, found)
    return _report(services, found.reports[-1], kind)


def _report(services: Services, row: Row[Any], kind: str) -> Response:
    try:
        with open_stored(services.desk.archive, row.path) as file:
            if kind == _DICOM:
                name = f'attachment; filename="{row.sop_instance_uid}.dcm"'
                return Response(file.read(), headers={"Content-Disposition": name}, media_type=kind)
            lines = text_of(dcmread(file))
    except FileGone as error:
        raise HTTPException(404, "The report is gone from the archive.") from error
    except (ArchiveAway, OSError) as error:
        raise HTTPException(503, "The archive cannot be read just now; try again soon.") from error
    return PlainTextResponse("".join(f"{_line(each)}\n" for each in lines))


def _line(item: TextLine) -> str:
    """Give a content item as a line, also where the report says it on several."""
    said = " ".join(item.value.split())
    return f"{'  ' * item.depth}{item.name}: {said}" if said else f"{'  ' * item.depth}{item.name}"


@router.post(
    "/{uid}/requeue", status_code=202, response_model=Owed, responses=described(400, 403, 404, 409)
)
def requeue(
    request: Request,
    services: Given,
    caller: Annotated[Identity, Depends(at_least(Role.ADMIN))],
    uid: StudyUid,
    why: Reason,
) -> Response:
    """Do a study again; for administrators."""
    note = audited.acting(services, request, caller, "requeue")
    done = given_up.requeue(services.desk, [uid], why.reason, services.announce, caller.name, note)
    ((_, owed),) = list(done)
    if owed is None:
        raise HTTPException(404, _UNKNOWN)
    if not owed:
        raise HTTPException(409, "Nothing is left of this study that could be done again.")
    return JSONResponse({"study_instance_uid": uid, "jobs": owed}, 202)


def _found(services: Services, uid: str) -> Found:
    with services.reading() as session:
        found = find_study(session, uid)
    if found is None:
        raise HTTPException(404, _UNKNOWN)
    return found
