"""QIDO-RS: searches for studies, series and instances, matched as C-FIND matches.

References
----------
DICOM PS3.18 10.6
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.matching import matches
from dicom_node.query import QueryFailure, attributes_of
from dicom_node.query_scp import SEARCH_LIMIT, too_many
from worker import holdings
from worker.access.roles import Identity
from worker.web import audited
from worker.web.api.asked import StudyUid
from worker.web.api.bearer import Caller
from worker.web.dicomweb import accept
from worker.web.dicomweb.as_json import json_of
from worker.web.dicomweb.asked import Search, read_search
from worker.web.dicomweb.callers import Guarded
from worker.web.dicomweb.objects import SeriesUid, base_of, url_of
from worker.web.dicomweb.places import searching
from worker.web.gate import Given
from worker.web.services import Services

log = logging.getLogger(__name__)

router = APIRouter(route_class=Guarded)

_MORE: Final = (
    "There are additional results that can be requested, by offset, or by a larger limit."
)


@router.get("/studies")
def studies(request: Request, services: Given, caller: Caller) -> Response:
    """Search for studies."""
    return _answer(request, services, caller, "STUDY", {})


@router.get("/series")
def series(request: Request, services: Given, caller: Caller) -> Response:
    """Search for series, of whatever study."""
    return _answer(request, services, caller, "SERIES", {})


@router.get("/instances")
def instances(request: Request, services: Given, caller: Caller) -> Response:
    """Search for instances, of whatever study."""
    return _answer(request, services, caller, "IMAGE", {})


@router.get("/studies/{study}/series")
def series_of_study(request: Request, services: Given, caller: Caller, study: StudyUid) -> Response:
    """Search for series of a study."""
    return _answer(request, services, caller, "SERIES", {"StudyInstanceUID": study})


@router.get("/studies/{study}/instances")
def instances_of_study(
    request: Request, services: Given, caller: Caller, study: StudyUid
) -> Response:
    """Search for instances of a study."""
    return _answer(request, services, caller, "IMAGE", {"StudyInstanceUID": study})


@router.get("/studies/{study}/series/{series}/instances")
def instances_of_series(
    request: Request, services: Given, caller: Caller, study: StudyUid, series: SeriesUid
) -> Response:
    """Search for instances of a series."""
    within = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _answer(request, services, caller, "IMAGE", within)


@dataclass(frozen=True, slots=True)
class _Matches:
    entities: list[Dataset]
    has_more: bool


def _answer(
    request: Request, services: Services, caller: Identity, level: str, within: Mapping[str, str]
) -> Response:
    kind = accept.require(request, accept.JSON, "application/json")
    parameters = request.query_params.multi_items()
    search = read_search(level, within, parameters)
    criteria = {**_said(parameters), "level": level, **within}
    base = base_of(request)
    with searching():
        audited.searched(services, request, caller, criteria)
        found = _matches(services, search)
        told = [json_of(_told(each, search, base)) for each in found.entities]
    warnings = [*search.warnings, *([_MORE] if found.has_more else [])]
    headers = {"Warning": ", ".join(f'299 cxr-worker "{each}"' for each in warnings)}
    if not warnings:
        headers = {}
    if not told:
        return Response(status_code=204, headers=headers)
    return JSONResponse(told, headers=headers, media_type=kind)


def _said(parameters: list[tuple[str, str]]) -> dict[str, str]:
    """Give what a query says, and all of it where it says something twice."""
    said: dict[str, list[str]] = {}
    for name, value in parameters:
        said.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in said.items()}


def _matches(services: Services, search: Search) -> _Matches:
    """Give the matches that are asked for, the newest first.

    Raises
    ------
    HTTPException
        413 when too many would have to be looked at.
    """
    try:
        return _looked_for(services, search)
    except QueryFailure as error:
        raise HTTPException(413, f"{error}.") from error


def _looked_for(services: Services, search: Search) -> _Matches:
    wanted, supported = search.wanted, attributes_of(search.wanted.level)
    find = holdings.finder(services.reading, services.desk.archive, SEARCH_LIMIT)
    found: list[Dataset] = []
    last, count = search.offset + search.limit, 0
    for number, entity in enumerate(find(wanted)):
        if number == SEARCH_LIMIT:
            raise too_many()
        if not _is_match(entity, wanted.identifier, supported):
            continue
        if count == last:
            return _Matches(found, has_more=True)
        if count >= search.offset:
            found.append(entity)
        count += 1
    return _Matches(found, has_more=False)


def _is_match(entity: Dataset, identifier: Dataset, supported: Collection[str]) -> bool:
    """Match an entity; one whose values cannot be read does not end the search."""
    try:
        return matches(entity, identifier, supported)
    except Exception as error:  # noqa: BLE001 - pydicom converts them only now, and raises all kinds
        uid, why = entity.get("StudyInstanceUID", ""), type(error).__name__
        log.warning("a search leaves out something of study %s: %s", uid, why)
        return False


def _told(entity: Dataset, search: Search, base: str) -> Dataset:
    """Return what is told of a match; what is not known becomes empty."""
    told = Dataset()
    for keyword in search.returned:
        vr = dictionary_VR(keyword).split(" ", maxsplit=1)[0]
        told.add_new(tag_for_keyword(keyword) or 0, vr, [] if vr == "SQ" else None)
        with suppress(Exception):  # pydicom converts it only now, and raises all kinds
            told[keyword] = entity[keyword]
    if "SpecificCharacterSet" in entity:
        told.SpecificCharacterSet = "ISO_IR 192"
    told.RetrieveURL = url_of(base, *_uids(entity, search.wanted.level))
    return told


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def _uids(entity: Any, level: str) -> list[str]:
    return [str(entity.get(keyword, "")) for keyword in _KEYS[level]]
