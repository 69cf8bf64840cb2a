"""Values of single attributes, as peers really write them."""

from __future__ import annotations

from math import isfinite

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

# PS3.5 6.2
_BINARY_NUMBERS = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})


def text(ds: Dataset, keyword: str) -> str:
    """Return a value as text in capitals; "" for what is absent."""
    value = ds.get(keyword)
    return str(value).strip().upper() if value is not None else ""


def number(ds: Dataset, keyword: str, default: float) -> float:
    """Return the first value of an element as a finite number, or the default.

    A decimal string that came as a binary number is none: its characters would be taken for one.
    """
    try:
        if dictionary_VR(keyword) == "DS" and ds[keyword].VR in _BINARY_NUMBERS:
            return default
        found = ds.get(keyword)
        value = float(next(iter(found)) if isinstance(found, (MultiValue, list)) else found)
    except Exception:  # noqa: BLE001 - a value is converted when it is read, and fails in all ways
        return default
    return value if isfinite(value) else default


def is_stated(ds: Dataset, keyword: str) -> bool:
    """Tell whether an element has a value, be it one that can be read or not."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in ds:
        return False
    value = ds.get_item(tag).value
    return bool(value.strip(b" \0")) if isinstance(value, bytes) else value not in (None, "", [])


def words(ds: Dataset, keyword: str) -> bytes:
    """Return the bytes of an OW value as they are in little endian (PS3.5 7.3)."""
    data = bytes(ds[keyword].value)
    if ds.original_encoding[1] is False:
        return np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    return data
