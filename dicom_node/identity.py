"""What a report takes over from its evidence: patient, study, character set, time zone.

Values are taken as bytes wherever they are text, so that a name reaches the report exactly as the
modality wrote it, in whatever character set.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Final

from pydicom import config
from pydicom.charset import (
    convert_encodings,
    decode_bytes,
    default_encoding,
    python_encoding,
)
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import TEXT_VR_DELIMS, PersonName, validate_value

import dicom_node.privacy  # noqa: F401
from dicom_node.modules import (
    COMPANIONS,
    ENUMERATED,
    IDENTIFYING,
    TRIAL,
    TRIAL_TYPE_1,
    TYPE_2,
    TYPE_3,
)

_TIMEZONE: Final = re.compile(r"[+-](?:0[0-9]|1[0-4])[0-5][0-9]")  # PS3.3 C.12.1.1.8

# PS3.5 6.2: VRs of one line of text; and VRs in which a backslash is an ordinary character.
_LINE_VRS: Final = frozenset({"LO", "PN", "SH", "UC"})
_PARAGRAPH_VRS: Final = frozenset({"LT", "ST", "UT"})
_CONTROLS: Final = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f]")

# VRs whose bytes are characters in every transfer syntax (PS3.5 6.2).
_CHARACTER_VRS: Final = frozenset(
    {"AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}
)


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
    values = {
        keyword: value
        for keyword in (*TYPE_2, *TYPE_3)
        if (value := _encoded_value(source, keyword)) is not None
    }
    terms = _character_set(source, values.values())
    if terms:
        report.SpecificCharacterSet = terms
    encodings = list(convert_encodings(terms or [""]))
    for keyword, value in values.items():
        if _is_valid(keyword, value, encodings):
            _put(report, keyword, value)
    _copy_sequences(report, source)
    _drop_incomplete(report)
    for keyword in TYPE_2:
        if keyword not in report:
            setattr(report, keyword, None)


def value_of(ds: Dataset, keyword: str) -> str:
    """Return a value as text, without its padding; "" when it is absent or cannot be read."""
    try:
        value = ds.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom converts it only now, and raises all kinds
        return ""
    return "" if value is None else str(value).strip(" \0")


def _encoded_value(source: Dataset, keyword: str) -> bytes | None:
    """Return an element's value as its bytes in little endian; None for sequences too."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = dictionary_VR(tag)
    if tag not in source or vr == "SQ":
        return None
    elem = source.get_item(tag)
    if elem.is_raw and vr in _CHARACTER_VRS:
        return elem.value or b""
    try:
        return _written(source, tag)
    except Exception:  # noqa: BLE001 - a value that cannot be encoded is not copied
        return None


def keep_bytes(report: Dataset) -> None:
    """Make pydicom write the copied bytes as they are.

    It decodes and encodes again what it believes to be in another encoding, and drops, for
    instance, an empty component group at the end of a name.
    """
    terms = report.get("SpecificCharacterSet")
    encodings = convert_encodings(terms) if terms else default_encoding
    report.set_original_encoding(False, True, encodings)


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


def _character_set(source: Dataset, values: Iterable[bytes]) -> list[str]:
    """Return the terms of the Specific Character Set, or the likeliest when there is none.

    Without a valid term, bytes above ASCII are UTF-8 when they can be, and else Latin-1, in which
    any byte is a character: the bytes stay.
    """
    terms = _terms(source)
    if terms and all(term in python_encoding for term in terms):
        return terms
    text = b"".join(values)
    if text.isascii():
        return []
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return ["ISO_IR 100"]
    return ["ISO_IR 192"]


def _is_valid(keyword: str, value: bytes, encodings: list[str]) -> bool:
    """Tell whether a value may stand in a valid report; what identifies always may."""
    vr = dictionary_VR(keyword)
    if keyword in IDENTIFYING or vr not in _CHARACTER_VRS:
        return True
    try:
        text = decode_bytes(value, encodings, TEXT_VR_DELIMS).rstrip(" \0")
        return not text or _is_of_its_kind(keyword, vr, text)
    except (LookupError, ValueError):
        return False


def _is_of_its_kind(keyword: str, vr: str, text: str) -> bool:
    """Tell whether a value is of its VR, its multiplicity and its enumeration.

    Raises
    ------
    ValueError
        When it is not of its VR.
    """
    parts = [text] if vr in _PARAGRAPH_VRS else text.split("\\")
    for part in parts:
        validate_value(vr, part, config.RAISE)
    if vr in _LINE_VRS and _CONTROLS.search(text):
        return False
    if keyword == "TimezoneOffsetFromUTC" and not _TIMEZONE.fullmatch(text):
        return False
    if len(parts) > 1 and dictionary_VM(keyword) == "1":
        return False
    return text in ENUMERATED.get(keyword, (text,))


def _put(report: Dataset, keyword: str, value: bytes) -> None:
    """Set an element from its bytes, under the VR of the dictionary (PS3.5 6.2)."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = dictionary_VR(tag)
    if vr in _CHARACTER_VRS:
        value = value.rstrip(b"\0")  # a wrong, but frequent, padding
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    report[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def _copy_sequences(report: Dataset, source: Dataset) -> None:
    for keyword in TYPE_3:
        if dictionary_VR(keyword) == "SQ" and keyword in source:
            elem = _sequence(source, keyword)
            if elem is not None:
                report.add(copy.deepcopy(elem))


def _sequence(source: Dataset, keyword: str) -> DataElement | None:
    """Return a sequence; None when it, or an item of it, is empty, or no sequence at all."""
    try:
        elem: DataElement = source[keyword]
    except Exception:  # noqa: BLE001 - pydicom parses it only now, and raises all kinds
        return None
    if elem.VR != "SQ" or not elem.value or not all(len(item) for item in elem.value):
        return None
    if keyword.endswith("CodeSequence") and not all(map(_is_code, elem.value)):
        return None
    return elem


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
