"""Whether a value may stand in a valid instance: its VR, multiplicity and enumeration.

References
----------
DICOM PS3.5 6.2 (VRs), 6.4 (multiplicity)
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from pydicom import config
from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.valuerep import TEXT_VR_DELIMS, validate_value

from dicom_node.modules import ENUMERATED, ENUMERATED_NUMBERS, IDENTIFYING

# PS3.3 C.12.1.1.8: from -1200 to +1400, and no -0000.
_TIMEZONE: Final = re.compile(
    r"\+(?:0[0-9]|1[0-3])[0-5][0-9]|\+1400|-(?!0000)(?:0[0-9]|1[01])[0-5][0-9]|-1200"
)

# PS3.5 6.2: VRs of one line of text; and VRs in which a backslash is an ordinary character.
_LINE_VRS: Final = frozenset({"LO", "PN", "SH", "UC"})
_PARAGRAPH_VRS: Final = frozenset({"LT", "ST", "UT"})
# PS3.5 6.2.1: up to three groups of up to five components.
_GROUP: Final = r"[^^=]*(?:\^[^^=]*){0,4}"
_NAME: Final = re.compile(rf"{_GROUP}(?:={_GROUP}){{0,2}}")
# Control characters that may not stand in a line, and in a paragraph (PS3.5 6.1.3).
_CONTROLS: Final = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f-\x9f]")
_PARAGRAPH_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
# PS3.5 6.2: dates and times as they stand in a data set; only in a query are there ranges.
_MOMENTS: Final = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?"),
    "DT": re.compile(r"\d{4}(?:\d{2}){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?"),
}

# VRs of text in the Specific Character Set (PS3.5 6.1.2.2).
TEXT_VRS: Final = _LINE_VRS | _PARAGRAPH_VRS
# VRs whose bytes are characters in every transfer syntax (PS3.5 6.2).
CHARACTER_VRS: Final = frozenset(
    {"AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}
)


def is_valid(keyword: str, value: bytes, encodings: list[str]) -> bool:
    """Tell whether a value may stand in a valid instance; what identifies always may.

    Parameters
    ----------
    keyword : str
        Of the attribute.
    value : bytes
        As in a file.
    encodings : list of str
        Python's codecs of the Specific Character Set.
    """
    vr = dictionary_VR(keyword)
    if keyword in IDENTIFYING:
        return True
    if vr not in CHARACTER_VRS:
        return _is_number_of_its_kind(keyword, value)
    try:
        text = decode_bytes(value, encodings, TEXT_VR_DELIMS).rstrip(" \0")
        return not text or _is_of_its_kind(keyword, vr, text)
    except (LookupError, ValueError):
        return False


def _is_number_of_its_kind(keyword: str, value: bytes) -> bool:
    allowed = ENUMERATED_NUMBERS.get(keyword)
    return allowed is None or (len(value) == 2 and int.from_bytes(value, "little") in allowed)


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
    if vr in _MOMENTS and not all(_MOMENTS[vr].fullmatch(part.strip()) for part in parts):
        return False
    if vr == "DA":
        for part in parts:
            date(int(part[:4]), int(part[4:6]), int(part[6:8]))
    if vr == "PN" and not all(_NAME.fullmatch(part) for part in parts):
        return False
    controls = _PARAGRAPH_CONTROLS if vr in _PARAGRAPH_VRS else _CONTROLS
    if controls.search(text):
        return False
    if keyword == "TimezoneOffsetFromUTC" and not _TIMEZONE.fullmatch(text):
        return False
    if len(parts) > 1 and dictionary_VM(keyword) == "1":
        return False
    return text in ENUMERATED.get(keyword, (text,))
