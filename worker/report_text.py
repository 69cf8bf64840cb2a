"""A Structured Report as text: its content tree, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydicom.dataset import Dataset

# PS3.3 C.17.3.2.1 Value Type -> the attribute that holds the value as text.
_TEXTS: Final = {
    "TEXT": "TextValue",
    "UIDREF": "UID",
    "PNAME": "PersonName",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
}
# Where a report would only repeat how it was made and what it points to.
_POINTERS: Final = ("IMAGE", "COMPOSITE", "WAVEFORM", "SCOORD", "SCOORD3D", "TCOORD")


_MEASUREMENT_GROUP: Final = "125007"


class TextLine(NamedTuple):
    """A content item: how deep it stands in the tree, what it is, and what it says."""

    depth: int
    name: str
    value: str


def order_of(report: Dataset) -> list[str]:
    """Give the SOP Instance UIDs of the images of a report, as it numbers them, from 1.

    References
    ----------
    DICOM PS3.16 TID 1501, Measurement Group (125007, DCM)
    """
    groups = (item for item in _items(report) if _code(item) == _MEASUREMENT_GROUP)
    return list(dict.fromkeys(uid for group in groups for uid in list(_references(group))[:1]))


def _items(item: Dataset) -> Iterator[Dataset]:
    yield item
    for each in item.get("ContentSequence", ()):
        yield from _items(each)


def _references(group: Dataset) -> Iterator[str]:
    for item in _items(group):
        for reference in item.get("ReferencedSOPSequence", ()):
            yield str(reference.get("ReferencedSOPInstanceUID", ""))


def _code(item: Dataset) -> str:
    codes = item.get("ConceptNameCodeSequence")
    return str(codes[0].get("CodeValue", "")) if codes else ""


def text_of(report: Dataset) -> list[TextLine]:
    """Give the content items of a report that say something in words, in their order.

    References
    ----------
    DICOM PS3.3 C.17.3
    """
    return list(_lines(report, 0))


def _lines(item: Dataset, depth: int) -> Iterator[TextLine]:
    if item.get("ValueType") not in _POINTERS:
        yield TextLine(depth, _meaning(item.get("ConceptNameCodeSequence")), _value(item))
    for each in item.get("ContentSequence", ()):
        yield from _lines(each, depth + 1)


def _value(item: Dataset) -> str:
    kind = item.get("ValueType", "")
    if kind == "CODE":
        return _meaning(item.get("ConceptCodeSequence"))
    if kind == "NUM":
        return _measured(item.get("MeasuredValueSequence"))
    return str(item.get(_TEXTS.get(kind, ""), "") or "")


def _measured(values: Any) -> str:
    if not values:
        return ""
    unit = values[0].get("MeasurementUnitsCodeSequence")
    code = unit[0].get("CodeValue", "") if unit else ""
    # UCUM: 1 is the unit of a number without one, and what is in braces only explains it.
    shown = "" if code == "1" or code.startswith("{") else f" {code}"
    return f"{values[0].get('NumericValue', '')}{shown}"


def _meaning(codes: Any) -> str:
    return str(codes[0].get("CodeMeaning", "")) if codes else ""
