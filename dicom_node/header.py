"""The few attributes that the node needs of an encoded instance, without parsing the rest."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import TEXT_VR_DELIMS

import dicom_node.privacy  # noqa: F401
from dicom_node.encoding import PADDING
from dicom_node.inflating import inflating, read_before_pixels

_KEYWORDS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "Modality",
    "Manufacturer",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)
_CHUNK = 1 << 20

_TAGS: Mapping[str, int] = {keyword: tag_for_keyword(keyword) or 0 for keyword in _KEYWORDS}


def read_header(source: bytes | BinaryIO) -> dict[str, str]:
    """Read the attributes that identify an instance from its Part 10 bytes.

    Parameters
    ----------
    source : bytes or binary file
        A file as received; pixel data is not looked at. One that may be deflated comes as bytes.

    Returns
    -------
    dict of str to str
        By keyword; "" for what is absent or empty. Text with a wrong character set is decoded as
        well as can be, as it must not keep an image from its patient's study.

    Raises
    ------
    Exception
        Whatever pydicom raises on bytes that are no data set; the kinds are not documented.
    """
    if isinstance(source, bytes):
        _check_deflated(source)
        source = BytesIO(source)
    ds, _ = read_before_pixels(source, list(_TAGS.values()))
    raw = {keyword: _raw_value(ds, tag) for keyword, tag in _TAGS.items()}
    encodings = _encodings(raw["SpecificCharacterSet"])
    return {keyword: _text(value, encodings) for keyword, value in raw.items()}


def transfer_syntax_of(file: BinaryIO) -> str:
    """Return the transfer syntax of a Part 10 file, which is read from its beginning.

    Raises
    ------
    Exception
        As `read_header` does.
    """
    file.seek(0)
    if inflating(file) is not None:
        return str(DeflatedExplicitVRLittleEndian)
    return str(read_partial(file, stop_when=lambda *_: True).file_meta.TransferSyntaxUID)


def _check_deflated(data: bytes) -> None:
    """Refuse a deflated data set that inflates beyond all measure, without keeping it.

    Raises
    ------
    ValueError
        When it does, or is cut off.
    """
    inflated = inflating(BytesIO(data))
    while inflated is not None and inflated.read(_CHUNK):
        pass


def _raw_value(ds: Dataset, tag: int) -> bytes:
    """Return an element's bytes as they stand in the file; b"" when it is absent."""
    if tag not in ds:
        return b""
    value: Any = ds.get_item(tag).value
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return "\\".join([value] if isinstance(value, str) else map(str, value)).encode()


def _encodings(value: bytes) -> list[str]:
    """Return the Python codecs for a Specific Character Set (PS3.3 C.12.1.1.2)."""
    terms = [term.strip() for term in value.decode("ascii", "replace").split("\\")]
    try:
        return list(convert_encodings(terms))
    except (LookupError, ValueError):
        return ["iso8859"]


def _text(value: bytes, encodings: list[str]) -> str:
    try:
        text = decode_bytes(value, encodings, TEXT_VR_DELIMS)
    except (LookupError, ValueError):
        text = value.decode("latin-1")
    return text.strip(PADDING)
