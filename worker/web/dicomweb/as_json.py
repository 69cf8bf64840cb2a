"""The DICOM JSON Model.

References
----------
DICOM PS3.18 Annex F
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

# What is longer than this, in bytes, is fetched by its own URI (F.2.2).
LONGEST_INLINE: Final = 1024
_BINARY_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_CHARACTER_SET: Final = "00080005"
_NEVER: Final = 1 << 62

BulkUri = Callable[[BaseTag], str]


def json_of(ds: Dataset, bulk_uri: BulkUri | None = None) -> dict[str, Any]:
    """Return a data set as the object that JSON shows it as.

    Parameters
    ----------
    ds
        A data set; a value of it that is not what its VR demands is left out, as JSON has no place
        for it.
    bulk_uri
        Gives the URI of a long binary value, by its tag; without it all values are inline.
    """
    told: dict[str, Any] = {}
    for tag in sorted(ds.keys()):
        if tag.group <= 0x0002 or tag.element == 0:  # of the file, or the length of a group
            continue
        try:
            told[f"{tag:08X}"] = _element(ds[tag], bulk_uri)
        except Exception:  # noqa: BLE001, S112 - pydicom converts it only now, and raises all kinds
            continue
    if told.get(_CHARACTER_SET, {}).get("Value"):
        told[_CHARACTER_SET]["Value"] = ["ISO_IR 192"]  # F.2: JSON is in UTF-8
    return told


def _element(element: DataElement, bulk_uri: BulkUri | None) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [json_of(item) for item in element.value or ()]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if bulk_uri is not None and element.VR in _BINARY_VRS:
        value = element.value
        if isinstance(value, bytes) and len(value) > LONGEST_INLINE:
            return {"vr": element.VR, "BulkDataURI": bulk_uri(element.tag)}
    told = dict(element.to_json_dict(None, _NEVER))
    if "Value" in told:
        told["Value"] = [_number(each) for each in told["Value"]]
    return told


def _number(value: Any) -> Any:
    """Return what JSON can say: it has no word for what is no finite number, so it is text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
