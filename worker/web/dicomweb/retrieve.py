"""WADO-RS of instances: the stored files, and their metadata without the pixels.

References
----------
DICOM PS3.18 10.4, 8.7.3.5
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.header import transfer_syntax_of
from dicom_node.inflating import read_before_pixels
from worker.web import audited
from worker.web.api.asked import StudyUid
from worker.web.api.bearer import Caller
from worker.web.dicomweb import accept
from worker.web.dicomweb.accept import DICOM, JSON, Wish
from worker.web.dicomweb.as_json import json_of
from worker.web.dicomweb.callers import Guarded
from worker.web.dicomweb.converted import converted
from worker.web.dicomweb.objects import (
    SeriesUid,
    SopUid,
    Stored,
    base_of,
    find,
    opened,
    still_there,
    url_of,
)
from worker.web.dicomweb.parts import Part, alone, chunks, in_parts
from worker.web.gate import Given
from worker.web.services import Services

router = APIRouter(route_class=Guarded)

EXPLICIT: Final = str(ExplicitVRLittleEndian)
# Made into the default as they are asked for: their bytes are in the same order, and not coded.
_SIMPLE: Final = (str(ImplicitVRLittleEndian), str(DeflatedExplicitVRLittleEndian))
_STUDY, _SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
INSTANCE: Final = _SERIES + "/instances/{instance}"


def of_study(study: StudyUid) -> tuple[str, ...]:
    """Give the UIDs of a path."""
    return (study,)


def of_series(study: StudyUid, series: SeriesUid) -> tuple[str, ...]:
    """Give the UIDs of a path."""
    return study, series


def of_instance(study: StudyUid, series: SeriesUid, instance: SopUid) -> tuple[str, ...]:
    """Give the UIDs of a path."""
    return study, series, instance


OfStudy = Annotated[tuple[str, ...], Depends(of_study)]
OfSeries = Annotated[tuple[str, ...], Depends(of_series)]
OfInstance = Annotated[tuple[str, ...], Depends(of_instance)]


# --- files -----------------------------------------------------------------------------------


@router.get(_STUDY)
def study_files(request: Request, services: Given, caller: Caller, uids: OfStudy) -> Response:
    """Give all files of a study."""
    return _files(request, services, caller, uids)


@router.get(_SERIES)
def series_files(request: Request, services: Given, caller: Caller, uids: OfSeries) -> Response:
    """Give all files of a series."""
    return _files(request, services, caller, uids)


@router.get(INSTANCE)
def instance_file(request: Request, services: Given, caller: Caller, uids: OfInstance) -> Response:
    """Give the file of an instance."""
    return _files(request, services, caller, uids)


def _files(request: Request, services: Given, caller: Caller, uids: tuple[str, ...]) -> Response:
    found = find(services, *uids)
    kept = still_there(services, found)
    base = base_of(request)
    # Read once, however much is wished for.
    syntaxes = [_syntax(services, each) for each in kept]
    for wish in accept.wishes(request):
        if not wish.takes(DICOM):
            continue
        parts = [
            _part(services, each, syntax, wish, base, uids)
            for each, syntax in zip(kept, syntaxes, strict=True)
        ]
        given = [each for each in parts if each is not None]
        if len(given) < len(kept):  # not all can be had so: perhaps by another wish
            continue
        if wish.is_multipart:
            audited.sent(services, request, caller, kept[0].study)
            return in_parts(given, DICOM, 200 if len(kept) == len(found) else 206)
        if len(given) == 1:
            audited.sent(services, request, caller, kept[0].study)
            return alone(given[0])
    stored = f"transfer-syntax=* or {' or '.join(sorted(set(syntaxes)))}"
    raise accept.not_acceptable([f'multipart/related; type="{DICOM}"; {stored}'])


def _part(
    services: Services, stored: Stored, kept: str, wish: Wish, base: str, uids: Sequence[str]
) -> Part | None:
    """Give a file in a transfer syntax that is wished for; None when it cannot be had in one."""
    wanted = wish.transfer_syntax
    # 8.7.3.5.2: the default is Explicit VR Little Endian. What is compressed, or in the other byte
    # order, is told in the syntax that it has, where nothing is demanded by name.
    if kept in _SIMPLE and wanted in ("", EXPLICIT):
        read, syntax = partial(_converted, services, stored), EXPLICIT
    elif wanted in ("", "*", kept):
        read, syntax = partial(_as_stored, services, stored), kept
    else:
        return None
    where = [*uids[:2], *([stored.sop_instance_uid] if len(uids) > 1 else [])]
    location = url_of(base, *where)
    return Part(f"{DICOM}; transfer-syntax={syntax}", location, read)


def _syntax(services: Services, stored: Stored) -> str:
    with opened(services, stored) as file:
        return transfer_syntax_of(file)


def _as_stored(services: Services, stored: Stored) -> Iterator[bytes]:
    with opened(services, stored) as file:
        yield from chunks(file)


def _converted(services: Services, stored: Stored) -> Iterator[bytes]:
    """Write a file anew, in Explicit VR Little Endian."""
    with opened(services, stored) as file:
        yield from converted(file)


# --- metadata --------------------------------------------------------------------------------


@router.get(_STUDY + "/metadata")
def study_metadata(request: Request, services: Given, caller: Caller, uids: OfStudy) -> Response:
    """Give what all instances of a study say, but their pixels."""
    return _metadata(request, services, caller, uids)


@router.get(_SERIES + "/metadata")
def series_metadata(request: Request, services: Given, caller: Caller, uids: OfSeries) -> Response:
    """Give what all instances of a series say, but their pixels."""
    return _metadata(request, services, caller, uids)


@router.get(INSTANCE + "/metadata")
def instance_metadata(
    request: Request, services: Given, caller: Caller, uids: OfInstance
) -> Response:
    """Give what an instance says, but its pixels."""
    return _metadata(request, services, caller, uids)


def _metadata(request: Request, services: Given, caller: Caller, uids: tuple[str, ...]) -> Response:
    kind = accept.require(request, JSON, "application/json")
    found = find(services, *uids)
    kept = still_there(services, found)
    audited.accessed(services, request, caller, kept[0].study)
    status = 200 if len(kept) == len(found) else 206
    return StreamingResponse(_array(services, kept, base_of(request)), status, media_type=kind)


def _array(services: Services, kept: Sequence[Stored], base: str) -> Iterator[bytes]:
    """Write a JSON array, one instance after the other."""
    begin = b"["
    for stored in kept:
        yield begin + json.dumps(metadata_of(services, stored, base), allow_nan=False).encode()
        begin = b","
    yield b"]"


def metadata_of(services: Services, stored: Stored, base: str) -> dict[str, object]:
    """Return the metadata of an instance, where long values are named by their URI."""
    with opened(services, stored) as file:
        ds, _ = read_before_pixels(file)
    uids = (str(ds.get(each, "")) for each in ("StudyInstanceUID", "SeriesInstanceUID"))
    where = url_of(base, *uids, stored.sop_instance_uid)

    def bulk_uri(tag: BaseTag) -> str:
        return f"{where}/bulkdata/{tag:08X}"

    ds.AvailableTransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    told = json_of(ds, bulk_uri)
    if "Rows" in ds and "BitsAllocated" in ds:
        vr = "OW" if _is_in_words(ds) else "OB"
        told["7FE00010"] = {"vr": vr, "BulkDataURI": bulk_uri(BaseTag(0x7FE00010))}
    return told


def _is_in_words(ds: Dataset) -> bool:
    """Tell the VR of pixel data that was not read (PS3.5 8.2, A.4)."""
    syntax = ds.file_meta.TransferSyntaxUID
    return not syntax.is_compressed and int(ds.get("BitsAllocated") or 0) > 8
