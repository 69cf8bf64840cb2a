"""Attributes, items and sequences as bytes, in Explicit VR Little Endian.

What we author is encoded once, from the inside out: an item that is in every report is encoded
once for all.

References
----------
DICOM PS3.5 6.2 (VRs), 7.1.2 (Explicit VR), 7.5 (sequences)
"""

from __future__ import annotations

import string
import struct
from collections.abc import Sequence
from functools import cache
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

# What stands round a value: spaces, NULs (PS3.5 6.2) and whatever else was never meant.
PADDING: Final = string.whitespace + "\0"

# Text in ASCII, or in Latin-1 what is no text of ours; items of a sequence; or bytes as they are.
Value = str | bytes | Sequence[bytes]

_ITEM: Final = b"\xfe\xff\x00\xe0"


@cache
def attribute(keyword: str) -> tuple[BaseTag, str]:
    """Return tag and VR of an attribute."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"there is no attribute {keyword}")
    return BaseTag(tag), dictionary_VR(tag)


@cache
def _head(keyword: str) -> tuple[int, bytes, bool]:
    """Return an element up to its length, and whether that has 32 bits."""
    tag, vr = attribute(keyword)
    return int(tag), struct.pack("<HH2s", tag.group, tag.element, vr.encode()), _is_long(vr)


def _is_long(vr: str) -> bool:
    return vr in EXPLICIT_VR_LENGTH_32


def _encoded(keyword: str, value: Value) -> bytes:
    """Encode a value and make its length even."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return b"".join(value)
    data = value.encode("latin-1")
    if len(data) % 2:
        data += b"\0" if attribute(keyword)[1] == "UI" else b" "
    return data


def _element(keyword: str, value: Value) -> tuple[int, bytes]:
    tag, head, is_long = _head(keyword)
    data = _encoded(keyword, value)
    return tag, head + struct.pack("<xxL" if is_long else "<H", len(data)) + data


def item(**values: Value) -> bytes:
    """Encode an item of a sequence.

    Parameters
    ----------
    **values : str, bytes or sequence of bytes
        By keyword: text, the items of a sequence, or bytes in even number as they are.
    """
    data = b"".join(data for _, data in sorted(_element(*pair) for pair in values.items()))
    return _ITEM + struct.pack("<L", len(data)) + data


def put(ds: Dataset, **values: Value) -> None:
    """Set attributes of a data set to be written as they are encoded here; `values` as of `item`.

    See :func:`dicom_node.identity.keep_bytes`.
    """
    for keyword, value in values.items():
        tag, vr = attribute(keyword)
        data = _encoded(keyword, value)
        ds[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
