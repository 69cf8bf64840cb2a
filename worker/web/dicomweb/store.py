"""STOW-RS: a second way in, read and stored part by part as the request comes.

References
----------
DICOM PS3.18 10.5
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.message import Message
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dicom_node.records import Received
from worker.access.roles import Identity, Role
from worker.audit.messages import StudyOf
from worker.web import audited
from worker.web.api.asked import StudyUid
from worker.web.api.bearer import at_least
from worker.web.dicomweb import accept
from worker.web.dicomweb.accept import DICOM, JSON, MULTIPART
from worker.web.dicomweb.as_json import json_of
from worker.web.dicomweb.callers import Guarded
from worker.web.dicomweb.objects import base_of
from worker.web.dicomweb.storing import Store, answer_of
from worker.web.gate import Given
from worker.web.services import Services

router = APIRouter(route_class=Guarded)

# So much is handed to a thread at once.
_PIECE: Final = 1 << 20
_MOST_PARTS: Final = 10_000

# Who says what is right and wrong may also bring what is to be looked at.
Bringer = Annotated[Identity, Depends(at_least(Role.READER))]


@router.post("/studies")
async def store(request: Request, services: Given, caller: Bringer) -> Response:
    """Store instances, of whatever studies."""
    return await _store(request, services, caller, "")


@router.post("/studies/{study}")
async def store_in_study(
    request: Request, services: Given, caller: Bringer, study: StudyUid
) -> Response:
    """Store instances of a study; those of others are refused."""
    return await _store(request, services, caller, study)


async def _store(request: Request, services: Services, caller: Identity, study: str) -> Response:
    most = services.desk.settings.dicomweb_store_mb * 1_000_000
    if not most:
        raise HTTPException(403, "CXR_DICOMWEB_STORE_MB is 0: nothing is stored by the web here.")
    accepted = accept.require(request, JSON, "application/json")
    boundary = _boundary(request)
    parts = Store(
        services.desk, services.incoming, services.announce,
        _recorder(services, request, caller), study,
    )  # fmt: skip
    try:
        body = _Body(parts, boundary)
        async for piece in _pieces(request, most):
            await run_in_threadpool(body.write, piece)
        await run_in_threadpool(body.finish)
    except ClientDisconnect as error:  # nobody hears this
        raise HTTPException(400, "The connection was cut off.") from error
    finally:
        await run_in_threadpool(parts.close)
    if not parts.told:
        raise HTTPException(400, "There is no instance in this request.")
    status, ds = answer_of(parts.told, base_of(request))
    return JSONResponse(json_of(ds), status, media_type=accepted)


def _recorder(services: Services, request: Request, caller: Identity) -> Callable[[Received], None]:
    """Make what writes down, once for each study and patient of it, that it comes."""
    known: set[StudyOf] = set()

    def record(received: Received) -> None:
        study = StudyOf(received.study_instance_uid, received.patient_id)
        if study not in known:
            audited.received(services, request, caller, study)
            known.add(study)

    return record


def _boundary(request: Request) -> str:
    """Give what stands between the parts.

    Raises
    ------
    HTTPException
        415 when the request has no instances in parts.
    """
    told = Message()
    told["Content-Type"] = request.headers.get("content-type", "")
    boundary = told.get_boundary("")
    kind = str(told.get_param("type", DICOM)).lower()
    if told.get_content_type() != MULTIPART or kind != DICOM or not boundary:
        raise HTTPException(415, f'Send {MULTIPART}; type="{DICOM}", with its boundary.')
    return boundary


async def _pieces(request: Request, most: int) -> AsyncIterator[bytes]:
    """Give the body as it comes, in pieces that are worth a thread.

    Raises
    ------
    HTTPException
        413 when it is longer than it may be.
    """
    gathered, length = bytearray(), 0
    async for data in request.stream():
        length += len(data)
        if length > most:
            raise HTTPException(413, f"At most {most // 1_000_000} MB are taken at once.")
        gathered += data
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


class _Body:
    """Takes a body apart, and hands the parts on.

    Parameters
    ----------
    parts : Store
        Where they go.
    boundary : str
        What stands between them.
    """

    def __init__(self, parts: Store, boundary: str) -> None:
        self._parts = parts
        self._name, self._value = bytearray(), bytearray()
        self._kind, self._count, self._is_whole = "", 0, False
        try:
            self._parser = MultipartParser(boundary, {
                "on_part_begin": self._begin,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": parts.end,
                "on_end": self._end,
            })  # fmt: skip
        except (FormParserError, UnicodeEncodeError) as error:
            raise HTTPException(400, "This is no boundary (RFC 2046 5.1.1).") from error

    def write(self, data: bytes) -> None:
        """Take more of the body.

        Raises
        ------
        HTTPException
            400 when it is not what it should be.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise HTTPException(400, "The parts of this request cannot be told apart.") from error

    def finish(self) -> None:
        """Say that this was all; raises as `write` does."""
        if not self._is_whole:
            raise HTTPException(400, "The request ends within a part.")

    def _begin(self) -> None:
        self._kind = DICOM
        self._count += 1
        if self._count > _MOST_PARTS:
            raise HTTPException(413, f"At most {_MOST_PARTS} instances are taken at once.")

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-type":
            self._kind = self._value.decode("latin-1").partition(";")[0].strip().lower()
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        if self._kind == DICOM:
            self._parts.begin()
        else:
            self._parts.refuse()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._parts.write(data[start:end])

    def _end(self) -> None:
        self._is_whole = True
