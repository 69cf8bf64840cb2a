"""WADO-RS of frames and of long values.

References
----------
DICOM PS3.18 10.4.1.1.6, 10.4.1.1.5, 8.7.3
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.errors import InstanceError
from dicom_node.inflating import read_before_pixels
from worker.web import audited
from worker.web.api.bearer import Caller
from worker.web.dicomweb import accept
from worker.web.dicomweb.accept import OCTETS, Wish
from worker.web.dicomweb.callers import Guarded
from worker.web.dicomweb.objects import Stored, base_of, find_one, opened, url_of
from worker.web.dicomweb.parts import Part, alone, in_parts
from worker.web.dicomweb.pixel_data import PixelData, pixel_data_of
from worker.web.dicomweb.retrieve import EXPLICIT, INSTANCE, OfInstance
from worker.web.gate import Given
from worker.web.services import Services

router = APIRouter(route_class=Guarded)

# 8.7.3.5.2, Table 8.7.3-5: code streams by their own names.
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            map(str, (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)),
            "image/jpeg",
        ),
        **dict.fromkeys(map(str, (JPEGLSLossless, JPEGLSNearLossless)), "image/jls"),
        **dict.fromkeys(map(str, (JPEG2000Lossless, JPEG2000)), "image/jp2"),
        **dict.fromkeys(map(str, (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)), "image/jphc"),
        str(RLELossless): "image/dicom-rle",
    }
)
_MOST_FRAMES: Final = 1000
_PIXEL_DATA: Final = 0x7FE00010


@router.get(INSTANCE + "/frames/{numbers}")
def frames(
    request: Request, services: Given, caller: Caller, uids: OfInstance, numbers: str
) -> Response:
    """Give frames: as stored where they are compressed, and else in little endian."""
    asked = frame_numbers(numbers)
    stored = find_one(services, *uids)
    with _pixels(services, stored) as pixels:
        syntax, count = pixels.syntax, pixels.frames
    require_frames(asked, count)
    wish, kind = _chosen(request, syntax)
    where = f"{url_of(base_of(request), *uids)}/frames"
    told = f"{kind}; transfer-syntax={syntax}"
    parts = [
        Part(told, f"{where}/{each}", partial(_frame, services, stored, each)) for each in asked
    ]
    if not wish.is_multipart and len(parts) > 1:
        raise HTTPException(406, "Several frames come as multipart/related.")
    audited.accessed(services, request, caller, stored.study)
    return in_parts(parts, kind) if wish.is_multipart else alone(parts[0])


def frame_numbers(numbers: str) -> list[int]:
    """Read a list of frames.

    Raises
    ------
    HTTPException
        400.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*", numbers):
        raise HTTPException(400, "Frames are numbers from 1, with commas between them.")
    asked = [int(each) for each in numbers.split(",")]
    if len(asked) > _MOST_FRAMES:
        raise HTTPException(400, f"At most {_MOST_FRAMES} frames are given at once.")
    return asked


def require_frames(asked: list[int], count: int) -> None:
    """Refuse frames that there are not."""
    if max(asked) > count:
        raise HTTPException(404, f"The instance has {count} frame{'s' * (count > 1)}.")


def _chosen(request: Request, syntax: str) -> tuple[Wish, str]:
    """Give the wish that is fulfilled, and the media type of a frame.

    Raises
    ------
    HTTPException
        406: what is compressed is given as it is, or not at all.
    """
    own = _KINDS.get(syntax, OCTETS)
    for wish in accept.wishes(request):
        any_will_do = wish.transfer_syntax in ("*", syntax)
        if wish.takes(own) and own != OCTETS and (any_will_do or not wish.transfer_syntax):
            return wish, own
        # 8.7.3.5.2: octets of which nothing is said are not compressed.
        if wish.takes(OCTETS) and (
            any_will_do or (syntax == EXPLICIT and not wish.transfer_syntax)
        ):
            return wish, OCTETS
    offered = sorted({own, OCTETS})
    raise accept.not_acceptable([f'type="{each}"; transfer-syntax={syntax}' for each in offered])


def _frame(services: Services, stored: Stored, number: int) -> Iterator[bytes]:
    with _pixels(services, stored) as pixels:
        yield from pixels.frame(number)


@contextmanager
def _pixels(services: Services, stored: Stored) -> Iterator[PixelData]:
    with opened(services, stored) as file:
        try:
            pixels = pixel_data_of(file, stored.sop_instance_uid)
        except InstanceError as error:
            raise HTTPException(404, str(error)) from error
        yield pixels


# --- long values -----------------------------------------------------------------------------


@router.get(INSTANCE + "/bulkdata/{tag}")
def bulk_data(
    request: Request, services: Given, caller: Caller, uids: OfInstance, tag: str
) -> Response:
    """Give a long value, to which the metadata refers."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", tag):
        raise HTTPException(400, "A long value is named by its tag, of 8 digits.")
    stored = find_one(services, *uids)
    part = _bulk(services, stored, int(tag, 16))
    where = f"{url_of(base_of(request), *uids)}/bulkdata/{tag.upper()}"
    for wish in accept.wishes(request):
        if not wish.takes(OCTETS):
            continue
        audited.accessed(services, request, caller, stored.study)
        given = Part(OCTETS, where, part)
        return in_parts([given], OCTETS) if wish.is_multipart else alone(given)
    raise accept.not_acceptable([OCTETS, f'multipart/related; type="{OCTETS}"'])


def _bulk(services: Services, stored: Stored, tag: int) -> partial[Iterator[bytes]]:
    """Find a value, and give what reads it.

    Raises
    ------
    HTTPException
        404 when there is none, 406 for pixels that are compressed: those are had by frames.
    """
    if tag == _PIXEL_DATA:
        with _pixels(services, stored) as pixels:
            if pixels.is_compressed:
                raise HTTPException(406, "Compressed pixels are given by frame: .../frames/1")
        return partial(_all_frames, services, stored)
    value = _value(services, stored, tag)
    return partial(iter, (value,))


def _all_frames(services: Services, stored: Stored) -> Iterator[bytes]:
    with _pixels(services, stored) as pixels:
        yield from pixels.whole()


def _value(services: Services, stored: Stored, tag: int) -> bytes:
    with opened(services, stored) as file:
        ds, _ = read_before_pixels(file, [tag])
    value = ds[tag].value if tag in ds else None
    if not isinstance(value, bytes):
        raise HTTPException(404, "The instance has no such long value.")
    return value
