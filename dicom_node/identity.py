"""What a report takes over from its evidence: patient, study, character set, time zone.

Values are taken as bytes wherever they are text, so that a name reaches the report exactly as the
modality wrote it, in whatever character set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydicom.charset import (
    convert_encodings,
    default_encoding,
    python_encoding,
)
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

import dicom_node.privacy  # noqa: F401
from dicom_node.encoding import PADDING, attribute
from dicom_node.modules import (
    CODE,
    COMPANIONS,
    ITEMS,
    OF_ANIMALS,
    SPECIES,
    TRIAL,
    TRIAL_TYPE_1,
    TYPE_2,
    TYPE_3,
)
from dicom_node.validity import CHARACTER_VRS, TEXT_VRS, is_valid

# VRs of binary numbers (PS3.5 6.2).
_NUMBER_VRS: Final = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})


def add_identity(report: Dataset, source: Dataset) -> None:
    """Copy the patient and study modules, character set and time zone of `source`.

    Parameters
    ----------
    report : pydicom.dataset.Dataset
        Gets the elements; Type 2 attributes that `source` lacks become empty.
    source : pydicom.dataset.Dataset
        An instance of the study; not changed.

    References
    ----------
    DICOM PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3, C.12.1.1.2
    """
    terms = _best_character_set(source, (*TYPE_2, *TYPE_3))
    if terms:
        report.SpecificCharacterSet = terms
    copy_elements(report, source, (*TYPE_2, *TYPE_3), terms)
    _drop_incomplete(report)
    for keyword in TYPE_2:
        if keyword not in report:
            setattr(report, keyword, None)


def copy_elements(
    target: Dataset, source: Dataset, keywords: Iterable[str], terms: Sequence[str]
) -> None:
    """Copy elements as their bytes, as far as they may stand in a valid instance.

    Parameters
    ----------
    target : pydicom.dataset.Dataset
        Gets the elements.
    source : pydicom.dataset.Dataset
        An instance, or an item of a sequence; not changed.
    keywords : iterable of str
        What to copy where the source has it.
    terms : sequence of str
        Specific Character Set of `target`; none is ASCII.
    """
    encodings = _encodings(terms)
    for keyword in keywords:
        tag, vr = attribute(keyword)
        if tag not in source:
            continue
        if vr == "SQ":
            items = _copied_items(source, keyword, terms)
            if items:
                setattr(target, keyword, items)
            continue
        value = encoded_value(source, keyword)
        if value is not None and is_valid(keyword, value, encodings):
            _put(target, keyword, value)


def value_of(ds: Dataset, keyword: str) -> str:
    """Return a value as text, without its padding; "" when it is absent or cannot be read.

    The element stays as it is: pydicom would convert it for good, and names not always back to the
    same bytes.
    """
    try:
        elem: Any = ds.get_item(attribute(keyword)[0])
        if isinstance(elem, RawDataElement):
            if elem.VR == "UI":  # which no character set concerns
                return (elem.value or b"").decode("latin-1").strip(PADDING)
            codecs = _encodings(character_set(ds), default_encoding)
            elem = convert_raw_data_element(elem, encoding=codecs, ds=ds)
        value = None if elem is None else elem.value
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return ""
    return "" if value is None else _as_text(value).strip(PADDING)


def _as_text(value: Any) -> str:
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def encoded_value(source: Dataset, keyword: str) -> bytes | None:
    """Return an element's value as its bytes in little endian; None for what has no such value."""
    tag, vr = attribute(keyword)
    if tag not in source:
        return None
    elem = source.get_item(tag)
    if elem.VR == "SQ":
        return None
    if vr in CHARACTER_VRS:
        if elem.is_raw and elem.VR not in _NUMBER_VRS:
            return elem.value or b""
        if elem.VR in _NUMBER_VRS:
            return value_of(source, keyword).encode()
    try:
        return _written(source, tag) if vr in CHARACTER_VRS or vr == source[tag].VR else None
    except Exception:  # noqa: BLE001 - a value that cannot be encoded is not copied
        return None


def keep_bytes(ds: Dataset, terms: Sequence[str] | None = None) -> None:
    """Make pydicom write the copied bytes as they are.

    It decodes and encodes again what it believes to be in another encoding, and drops, for
    instance, an empty component group at the end of a name.

    Parameters
    ----------
    ds : pydicom.dataset.Dataset
        An instance, or an item of a sequence.
    terms : sequence of str, optional
        Specific Character Set, when it is not in `ds` itself.
    """
    terms = character_set(ds) if terms is None else terms
    encodings = _encodings(terms) if terms else default_encoding
    ds.set_original_encoding(False, True, encodings)


def _written(source: Dataset, tag: BaseTag) -> bytes:
    """Encode one converted element; in Implicit VR its value starts at byte 8 (PS3.5 7.1.3)."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    terms = character_set(source)
    elem: DataElement = source[tag]
    if elem.VR == "PN":
        names = [elem.value] if isinstance(elem.value, PersonName) else list(elem.value or [])
        if names and all(isinstance(name.original_string, bytes) for name in names):
            return b"\\".join(name.original_string for name in names)
    write_data_element(buffer, elem, convert_encodings(terms or [""]))
    return bytes(buffer.getvalue()[8:])


def character_set(source: Dataset) -> list[str]:
    """Return the terms of the Specific Character Set (PS3.3 C.12.1.1.2); none when it has none."""
    try:
        value: Any = source.get("SpecificCharacterSet") or []
        terms = [str(term).strip() for term in ([value] if isinstance(value, str) else value)]
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return []
    return terms if any(terms) else []


def _best_character_set(source: Dataset, keywords: Iterable[str]) -> list[str]:
    """Return the terms of the Specific Character Set, or the likeliest when there is none.

    Without a valid term, bytes above ASCII in `keywords` are UTF-8 when they can be, and else
    Latin-1, in which any byte is a character: the bytes stay.
    """
    terms = character_set(source)
    if terms and all(term in python_encoding for term in terms):
        return terms
    text = b"".join(
        encoded_value(source, each) or b"" for each in keywords if attribute(each)[1] in TEXT_VRS
    )
    if text.isascii():
        return []
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return ["ISO_IR 100"]
    return ["ISO_IR 192"]


def _encodings(terms: Sequence[str], otherwise: str = "ascii") -> list[str]:
    """Return Python's codecs for a Specific Character Set; ASCII without one (PS3.5 6.1.2.1)."""
    try:
        return list(convert_encodings(list(terms))) if terms else [otherwise]
    except (LookupError, ValueError):
        return [default_encoding]


def _put(report: Dataset, keyword: str, value: bytes) -> None:
    """Set an element from its bytes, under the VR of the dictionary (PS3.5 6.2)."""
    tag, vr = attribute(keyword)
    if vr in CHARACTER_VRS:
        if b"\0" in value:
            value = value.rstrip(b" \0")  # a wrong, but frequent, padding
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    report[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def items_of(source: Dataset, keyword: str) -> list[Dataset]:
    """Return a sequence's items; none when it is absent, or no sequence at all."""
    try:
        elem: DataElement = source[keyword]
    except Exception:  # noqa: BLE001 - pydicom parses it only now, and raises all kinds
        return []
    return list(elem.value or []) if elem.VR == "SQ" else []


def _copied_items(source: Dataset, keyword: str, terms: Sequence[str]) -> list[Dataset]:
    """Return copies of a sequence's items, without those that say nothing valid."""
    required = CODE if keyword.endswith("CodeSequence") else ITEMS.get(keyword, ())
    items = [copied_item(each, terms) for each in items_of(source, keyword)]
    return [
        item
        for item in items
        if len(item) and all(any(value_of(item, each) for each in group) for group in required)
    ]


def copied_item(
    source: Dataset, terms: Sequence[str], keywords: Iterable[str] | None = None
) -> Dataset:
    """Return a copy of a sequence's item; private attributes stay behind.

    Parameters
    ----------
    source : pydicom.dataset.Dataset
        The item; not changed.
    terms : sequence of str
        Specific Character Set of the instance that the copy is for.
    keywords : iterable of str, optional
        What to copy; all unless given.
    """
    own = character_set(source)
    if own and all(term in python_encoding for term in own):
        terms = own
    item = Dataset(parent_encoding=_encodings(terms, default_encoding))
    if terms is own:
        item.SpecificCharacterSet = own
    if keywords is None:
        known = (keyword_for_tag(tag) for tag in source.keys() if not tag.is_private)  # noqa: SIM118
        keywords = [each for each in known if _has_one_vr(each) and each != "SpecificCharacterSet"]
    copy_elements(item, source, keywords, terms)
    _drop_unaccompanied(item)
    keep_bytes(item, terms)
    return item


def _has_one_vr(keyword: str) -> bool:
    """Tell whether an attribute is known, and its VR not a matter of others, as of pixel data."""
    return bool(keyword) and " " not in dictionary_VR(keyword)


def _drop_unaccompanied(ds: Dataset) -> None:
    for keyword, companions in COMPANIONS.items():
        alone = not any(value_of(ds, each).strip("\\") for each in companions)
        if alone and keyword in ds and value_of(ds, keyword) != "NO":
            del ds[keyword]


def _drop_incomplete(report: Dataset) -> None:
    """Drop, or complete, what would be invalid without what the source does not say."""
    _drop_unaccompanied(report)
    if any(value_of(report, keyword) for keyword in SPECIES):
        for keyword in OF_ANIMALS:
            if keyword not in report:
                setattr(report, keyword, None)
    if not all(value_of(report, keyword) for keyword in TRIAL_TYPE_1):
        for keyword in TYPE_3:
            if keyword.startswith(TRIAL) and keyword in report:
                del report[keyword]
