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
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

import dicom_node.privacy  # noqa: F401
from dicom_node.modules import (
    COMPANIONS,
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
    terms = _character_set(source, (*TYPE_2, *TYPE_3))
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
        if dictionary_VR(keyword) == "SQ":
            items = _items(source, keyword, terms)
            if items:
                setattr(target, keyword, items)
            continue
        value = _encoded_value(source, keyword)
        if value is not None and is_valid(keyword, value, encodings):
            _put(target, keyword, value)


def value_of(ds: Dataset, keyword: str) -> str:
    """Return a value as text, without its padding; "" when it is absent or cannot be read.

    The element stays as it is: pydicom would convert it for good, and names not always back to the
    same bytes.
    """
    try:
        elem: Any = ds.get_item(Tag(tag_for_keyword(keyword) or 0))
        if isinstance(elem, RawDataElement):
            codecs = _encodings(_terms(ds), default_encoding)
            elem = convert_raw_data_element(elem, encoding=codecs, ds=ds)
        value = None if elem is None else elem.value
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return ""
    return "" if value is None else str(value).strip(" \0")


def _encoded_value(source: Dataset, keyword: str) -> bytes | None:
    """Return an element's value as its bytes in little endian; None for what has no such value."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = dictionary_VR(tag)
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
    terms = _terms(ds) if terms is None else terms
    encodings = _encodings(terms) if terms else default_encoding
    ds.set_original_encoding(False, True, encodings)


def _written(source: Dataset, tag: BaseTag) -> bytes:
    """Encode one converted element; in Implicit VR its value starts at byte 8 (PS3.5 7.1.3)."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    terms = _terms(source)
    elem: DataElement = source[tag]
    if elem.VR == "PN":
        names = [elem.value] if isinstance(elem.value, PersonName) else list(elem.value or [])
        if names and all(isinstance(name.original_string, bytes) for name in names):
            return b"\\".join(name.original_string for name in names)
    write_data_element(buffer, elem, convert_encodings(terms or [""]))
    return bytes(buffer.getvalue()[8:])


def _terms(source: Dataset) -> list[str]:
    """Return the terms of the Specific Character Set (PS3.3 C.12.1.1.2)."""
    try:
        value = source.get("SpecificCharacterSet") or []
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return []
    return [value] if isinstance(value, str) else [str(term) for term in value]


def _character_set(source: Dataset, keywords: Iterable[str]) -> list[str]:
    """Return the terms of the Specific Character Set, or the likeliest when there is none.

    Without a valid term, bytes above ASCII in `keywords` are UTF-8 when they can be, and else
    Latin-1, in which any byte is a character: the bytes stay.
    """
    terms = _terms(source)
    if terms and all(term in python_encoding for term in terms):
        return terms
    text = b"".join(
        _encoded_value(source, each) or b"" for each in keywords if dictionary_VR(each) in TEXT_VRS
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
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = dictionary_VR(tag)
    if vr in CHARACTER_VRS:
        value = value.rstrip(b"\0")  # a wrong, but frequent, padding
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    report[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def _items(source: Dataset, keyword: str, terms: Sequence[str]) -> list[Dataset]:
    """Return copies of a sequence's items, without those that say nothing valid."""
    try:
        elem: DataElement = source[keyword]
    except Exception:  # noqa: BLE001 - pydicom parses it only now, and raises all kinds
        return []
    if elem.VR != "SQ" or not elem.value:
        return []
    items = [_item(each, terms) for each in elem.value]
    is_code = keyword.endswith("CodeSequence")
    return [item for item in items if len(item) and (_is_code(item) or not is_code)]


def _item(source: Dataset, terms: Sequence[str]) -> Dataset:
    """Return a copy of an item; private attributes stay behind."""
    own = _terms(source)
    if own and all(term in python_encoding for term in own):
        terms = own
    item = Dataset(parent_encoding=_encodings(terms, default_encoding))
    if terms is own:
        item.SpecificCharacterSet = own
    keywords = [keyword_for_tag(tag) for tag in source.keys() if not tag.is_private]  # noqa: SIM118
    copied = [each for each in keywords if _has_one_vr(each) and each != "SpecificCharacterSet"]
    copy_elements(item, source, copied, terms)
    keep_bytes(item, terms)
    return item


def _has_one_vr(keyword: str) -> bool:
    """Tell whether an attribute is known, and its VR not a matter of others, as of pixel data."""
    return bool(keyword) and " " not in dictionary_VR(keyword)


def _is_code(item: Dataset) -> bool:
    """Tell whether an item has what every code has (PS3.3 Table 8.8-1)."""
    values = ("CodeValue", "LongCodeValue", "URNCodeValue")
    named = any(item.get(keyword) for keyword in values) and bool(item.get("CodeMeaning"))
    return named and bool(item.get("CodingSchemeDesignator") or item.get("URNCodeValue"))


def _drop_incomplete(report: Dataset) -> None:
    """Drop what would be invalid without what the source does not say."""
    for keyword, companions in COMPANIONS.items():
        if report.get(keyword) not in (None, "", "NO") and not any(
            report.get(each) for each in companions
        ):
            del report[keyword]
    if not all(report.get(keyword) for keyword in TRIAL_TYPE_1):
        for keyword in TYPE_3:
            if keyword.startswith(TRIAL) and keyword in report:
                del report[keyword]
