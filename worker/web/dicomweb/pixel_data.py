"""Where the pixels of a stored instance are, frame by frame, without all of them being read.

References
----------
DICOM PS3.5 7.1, 7.3, 8, A.4
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.attributes import number, text
from dicom_node.errors import InvalidInstance
from dicom_node.inflating import read_before_pixels
from worker.web.dicomweb.parts import chunks

_EXPLICIT: Final = str(ExplicitVRLittleEndian)
_PIXEL_DATA: Final = (0x7FE0, 0x0010)
_UNDEFINED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelData:
    """The pixel data of an instance, in a file that is still open.

    Attributes
    ----------
    syntax : str
        Transfer syntax of the frames as they are given: of what is not compressed, the default.
    frames : int
        How many there are.
    """

    syntax: str
    frames: int
    _read: Callable[[int, int], Iterator[bytes]]
    _length: int
    _frame_length: int

    @property
    def is_compressed(self) -> bool:
        """Whether each frame is a code stream."""
        return self.syntax != _EXPLICIT

    def frame(self, number_: int) -> Iterator[bytes]:
        """Give the bytes of a frame, counted from 1."""
        return self._read((number_ - 1) * self._frame_length, self._frame_length)

    def whole(self) -> Iterator[bytes]:
        """Give all frames that are not compressed, as they are in the attribute."""
        return self._read(0, self._length)


def pixel_data_of(file: BinaryIO, sop_instance_uid: str) -> PixelData:
    """Find the pixel data of a stored instance.

    Parameters
    ----------
    file
        At its beginning.

    Raises
    ------
    InvalidInstance
        When there is none, or not as much as the instance says.
    """
    ds, file = read_before_pixels(file)
    syntax = ds.file_meta.TransferSyntaxUID
    frames = max(1, int(number(ds, "NumberOfFrames", 1)))
    start, length, unit = _found(file, ds, sop_instance_uid)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        return PixelData(str(syntax), frames, _code_streams(file, start, frames), 1, 1)
    if length == _UNDEFINED:
        raise _none(sop_instance_uid)
    size = length if frames == 1 and number(ds, "BitsAllocated", 0) < 8 else _frame_size(ds)
    if not 0 < size * frames <= length:
        why = "The pixel data is not as long as the instance says."
        raise InvalidInstance("UNDECODABLE", why, sop_instance_uid)
    return PixelData(_EXPLICIT, frames, _samples(file, start, unit), length, size)


def _frame_size(ds: Dataset) -> int:
    """Return the bytes of a frame (PS3.3 C.7.6.3.1)."""
    samples = int(
        number(ds, "Rows", 0) * number(ds, "Columns", 0) * number(ds, "SamplesPerPixel", 1)
    )
    size = samples * int(number(ds, "BitsAllocated", 0)) // 8
    return size * 2 // 3 if text(ds, "PhotometricInterpretation") == "YBR_FULL_422" else size


def _found(file: BinaryIO, ds: Dataset, sop_instance_uid: str) -> tuple[int, int, int]:
    """Read the header of the element that the file stands at: start, length, bytes to swap."""
    is_implicit, is_little = ds.original_encoding
    order = "<" if is_little else ">"
    try:
        tag = struct.unpack(f"{order}HH", file.read(4))
        vr = b"OW" if is_implicit else file.read(4)[:2]
        (length,) = struct.unpack(f"{order}L", file.read(4))
    except struct.error as error:
        raise _none(sop_instance_uid) from error
    if tag != _PIXEL_DATA:
        raise _none(sop_instance_uid)
    return file.tell(), length, 1 if is_little or vr != b"OW" else 2


def _samples(file: BinaryIO, start: int, unit: int) -> Callable[[int, int], Iterator[bytes]]:
    def read(offset: int, length: int) -> Iterator[bytes]:
        # Words are swapped as they are: the frame begins within one where it is of odd bytes.
        begin = offset - offset % unit
        end = offset + length + (offset + length) % unit
        file.seek(start + begin)
        for data in chunks(file, end - begin):
            yield _swapped(data) if unit > 1 else data

    return read


def _swapped(data: bytes) -> bytes:
    words = array("H", data)
    words.byteswap()
    return words.tobytes()


def _code_streams(file: BinaryIO, start: int, frames: int) -> Callable[[int, int], Iterator[bytes]]:
    def read(offset: int, _length: int) -> Iterator[bytes]:
        file.seek(start)
        yield get_frame(file, offset, number_of_frames=frames)

    return read


def _none(sop_instance_uid: str) -> InvalidInstance:
    return InvalidInstance("NO_PIXELS", "The instance has no pixel data.", sop_instance_uid)
