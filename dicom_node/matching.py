"""Attribute matching: whether an entity is what the keys of an identifier seek.

References
----------
DICOM PS3.4 C.2.2.2
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

# PS3.4 C.2.2.2.4: wild cards are for these; C.2.2.2.5: ranges for those.
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE_VRS: Final = frozenset({"DA", "TM", "DT"})
_NUMBER_VRS: Final = frozenset({"IS", "DS", "US", "UL", "SS", "SL", "FL", "FD"})

# A pattern takes some ten times its length in memory, and a while to make: of a key that is matched
# by patterns, this is more than any value that is sought (PS3.5 6.2), and than anybody writes.
LONGEST_KEY: Final = 1024
MOST_VALUES: Final = 64
_LONGEST_KEPT: Final = 256

# What a query says about itself, not about what it seeks.
CONTROL_KEYWORDS: Final = frozenset(
    {"QueryRetrieveLevel", "SpecificCharacterSet", "TimezoneOffsetFromUTC", "RetrieveAETitle"}
)


def matches(entity: Dataset, identifier: Dataset, supported: Collection[str]) -> bool:
    """Tell whether an entity matches all keys of an identifier.

    Parameters
    ----------
    entity : Dataset
        With all supported attributes that are known of it.
    identifier : Dataset
        Keys; an empty one matches all (PS3.4 C.2.2.2.3).
    supported : collection of str
        Keywords that are matched; other keys are ignored, as optional keys may be (C.2.2.1.2).
    """
    return all(
        _matches_key(entity, key)
        for key in identifier
        if (keyword := keyword_for_tag(key.tag)) in supported and keyword not in CONTROL_KEYWORDS
    )


def is_too_long(key: Any) -> bool:
    """Tell whether a key would make patterns beyond all reason.

    Parameters
    ----------
    key : pydicom.dataelem.DataElement
        Of whatever VR it says it has: matched is by that of its attribute.
    """
    if not keyword_for_tag(key.tag) or dictionary_VR(key.tag) not in _WILDCARD_VRS:
        return False
    values = values_of(key)
    return len(values) > MOST_VALUES or sum(map(len, values)) > LONGEST_KEY


def _matches_key(entity: Dataset, key: Any) -> bool:
    if key.VR == "SQ" or isinstance(key.value, Sequence):
        return _matches_sequence(entity, key)
    wanted = values_of(key)
    if not any(wanted):
        return True
    vr = dictionary_VR(key.tag)
    found = [value for value in values_of(entity.get(key.tag)) if value]
    return any(matches_value(vr, want, have) for want in wanted if want for have in found) or any(
        want == "*" and vr in _WILDCARD_VRS for want in wanted
    )


def _matches_sequence(entity: Dataset, key: Any) -> bool:
    """Match the item of a sequence key against each item of the entity's (C.2.2.2.6)."""
    if not key.value or not len(key.value[0]):
        return True
    element = entity.get(key.tag)
    items = element.value if element is not None and element.value else []
    return any(all(_matches_key(item, each) for each in key.value[0]) for item in items)


def values_of(element: Any) -> list[str]:
    """Return the values of an element as text, without the padding that does not count."""
    if element is None or element.value is None:
        return []
    value = element.value
    several = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [str(each).strip("\0 ") for each in several]


def matches_value(vr: str, wanted: str, found: str) -> bool:
    """Match one value by the rules of its VR.

    Parameters
    ----------
    vr : str
        Value representation of the key.
    wanted : str
        From the query: not empty.
    found : str
        Of the entity: not empty.
    """
    if vr in _RANGE_VRS:
        return _matches_time(vr, wanted, found)
    if vr in _NUMBER_VRS:
        return _same_number(wanted, found)
    if vr == "PN":
        # PS3.4 C.2.2.2.1: names may be matched whatever their case.
        return _matches_name(wanted.casefold(), found.casefold())
    if vr in _WILDCARD_VRS:
        return _is_like(wanted, found)
    return wanted == found


def _matches_name(wanted: str, found: str) -> bool:
    """Match a person name, or one of its representations: ``Yamada^Tarou=...`` (PS3.5 6.2.1).

    Components that are empty at the end do not count.
    """
    groups = found.split("=")
    asked = wanted.split("=")
    if len(asked) == 1:
        return any(_matches_group(asked[0], group) for group in groups)
    groups += [""] * (len(asked) - len(groups))
    return all(not want or _matches_group(want, have) for want, have in zip(asked, groups))  # noqa: B905


def _matches_group(wanted: str, found: str) -> bool:
    return _is_like(wanted.rstrip("^ "), found.rstrip("^ "))


def _is_like(wanted: str, found: str) -> bool:
    """Match ``*`` and ``?``; a pattern is made only where it may match, and kept if it is short."""
    if not set("*?") & set(wanted):
        return wanted == found
    if len(wanted) - wanted.count("*") > len(found):
        return False
    make = _pattern if len(wanted) <= _LONGEST_KEPT else _pattern.__wrapped__
    return make(wanted).fullmatch(found) is not None


@lru_cache(maxsize=128)
def _pattern(wanted: str) -> re.Pattern[str]:
    """Return the pattern of ``*`` and ``?`` (C.2.2.2.4).

    What stands between two ``*`` is sought once and from the left, lest it takes for ever.
    """
    first, *rest = re.split(r"\*+", wanted)
    parts = [_literal(first), *(f"(?>.*?{_literal(part)})" for part in rest[:-1])]
    if rest:
        parts.append(f".*{_literal(rest[-1])}")
    return re.compile("".join(parts), re.DOTALL)


def _literal(text: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in text)


def _matches_time(vr: str, wanted: str, found: str) -> bool:
    """Match a date or time by value or by range; ``a-b``, ``a-`` and ``-b`` include their ends."""
    plain = _PLAIN[vr]
    low, dash, high = _split_range(vr, wanted)
    have = plain(found)
    if not dash:
        # A time that is less precise stands for all that it begins (C.2.2.2.1 leaves it open).
        return have.startswith(plain(wanted))
    # Compared as text: what is cut is filled with what sorts before, or behind, all digits.
    is_late = not low or have.ljust(26, "0") >= plain(low).ljust(26, "0")
    is_early = not high or have.ljust(26, "0") <= plain(high).ljust(26, "~")
    return is_late and is_early


def _split_range(vr: str, wanted: str) -> tuple[str, str, str]:
    """Split at the hyphen of a range; a DT may have another in its offset from UTC."""
    if vr == "DT" and re.fullmatch(r"[0-9.]+-[0-9]{4}", wanted) and wanted[-4:-2] <= "14":
        return wanted, "", ""
    return wanted.partition("-")


_PLAIN: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {
        "DA": lambda text: text.strip().replace(".", ""),  # 1993.08.22 of ACR-NEMA
        "TM": lambda text: text.strip().replace(":", ""),
        "DT": lambda text: text.strip().split("+")[0],
    }
)


def _same_number(wanted: str, found: str) -> bool:
    try:
        return float(wanted) == float(found)
    except ValueError:
        return wanted == found
