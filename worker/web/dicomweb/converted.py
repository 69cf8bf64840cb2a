"""Gives a stored file in Explicit VR Little Endian, while its pixels stay where they are.

An answer takes as long as who asked reads it: what it keeps in memory, many keep at once.

References
----------
DICOM PS3.5 7.1.2, A.1, A.2, A.5
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO, Final, cast

from fastapi import HTTPException
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.inflating import Inflating, inflating, read_before_pixels
from worker.web.dicomweb.parts import chunks

_PIXEL_DATA: Final = BaseTag(0x7FE00010)
_TAG: Final = struct.pack("<HH", 0x7FE0, 0x0010)
_UNDEFINED: Final = 0xFFFFFFFF
# Stands for the pixels while the header is written.
_STUB: Final = b"\0\0"
# Files that are written anew as a whole: what is behind the pixels, or is not as it should be.
_WHOLE: Final = threading.BoundedSemaphore(2)
_PATIENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class _Pixels:
    """A value at the end of a file; there may be none.

    Attributes
    ----------
    vr
        None where the file does not say it.
    start, length
        Where it is, in bytes.
    """

    vr: str | None
    start: int
    length: int


def converted(file: BinaryIO) -> Iterator[bytes]:
    """Write a file anew, in Explicit VR Little Endian.

    Parameters
    ----------
    file
        In Implicit VR Little Endian or Deflated Explicit VR Little Endian, at its beginning, and
        open until all is written.

    Raises
    ------
    HTTPException
        503 when it must be written as a whole, and too many others are.
    """
    begun = _begun(file)
    file.seek(0)
    if begun is None:
        yield from _whole(file)
        return
    head, pixels = begun
    yield from chunks(BytesIO(head))
    source = cast(BinaryIO, inflating(file) or file)
    source.seek(pixels.start)
    yield from chunks(source, pixels.length)


def _begun(file: BinaryIO) -> tuple[bytes, _Pixels] | None:
    """Give what stands before the pixels, and where they are; None when they are not the end."""
    ds, source = read_before_pixels(file)
    pixels = _pixels(ds, source)
    if pixels is None or not _ends_at(source, pixels.start + pixels.length):
        return None
    if not pixels.length:
        return _written(ds), pixels
    is_implicit = pixels.vr is None
    ds[_PIXEL_DATA] = RawDataElement(
        _PIXEL_DATA, pixels.vr, len(_STUB), _STUB, 0, is_implicit, is_little_endian=True
    )
    head = _written(ds)
    end = struct.pack("<L", len(_STUB)) + _STUB
    if head[-14:-10] != _TAG or not head.endswith(end):
        return None
    return head[: -len(end)] + struct.pack("<L", pixels.length), pixels


def _pixels(ds: Dataset, source: BinaryIO) -> _Pixels | None:
    """Read the header of the element that a file stands at; None when it is an unusual one."""
    is_implicit, _ = ds.original_encoding
    header = source.read(8 if is_implicit else 12)
    if not header:
        return _Pixels(None, source.tell(), 0)
    vr = None if is_implicit else header[4:6].decode("latin-1")
    length = int.from_bytes(header[-4:], "little")
    is_usual = header[:4] == _TAG and vr in (None, "OB", "OW")
    if not is_usual or length in (0, _UNDEFINED) or length % 2:
        return None
    return _Pixels(vr, source.tell(), length)


def _ends_at(source: BinaryIO, end: int) -> bool:
    if not isinstance(source, Inflating):
        return source.seek(0, SEEK_END) == end
    source.seek(end - 1)
    return len(source.read(2)) == 1


def _whole(file: BinaryIO) -> Iterator[bytes]:
    if not _WHOLE.acquire(timeout=_PATIENCE_S):
        raise HTTPException(503, "Too many files are converted; try again soon.")
    try:
        yield from chunks(BytesIO(_written(dcmread(file))))
    finally:
        _WHOLE.release()


def _written(ds: Dataset) -> bytes:
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()
