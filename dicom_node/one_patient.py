"""Whether the instances of a study are of one patient, as far as their headers tell.

A Study Instance UID names one study of one patient, and devices use one for two all the same. An ID
alone does not tell: another hospital gives it to somebody else, and where there is no order, a
device may have the same for everybody.

References
----------
DICOM PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import combinations
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.identity import encoded_value, value_of

# What a character set makes of bytes that are none of its characters.
_ILLEGIBLE: Final = "\N{REPLACEMENT CHARACTER}"


def contradiction(instances: Sequence[Dataset]) -> str | None:
    """Say in words, without any value, why instances are of more than one patient.

    Parameters
    ----------
    instances : sequence of Dataset
        Of one study; not changed.

    Returns
    -------
    str or None
        What they do, such as "differ in PatientBirthDate"; None where nothing speaks against it.
    """
    ids = _texts(instances, "PatientID")
    patients = ids
    if ids == {""}:  # an emergency, or a device that knows no better: there are the names
        names = _texts(instances, "PatientName")
        patients = {name.strip(" ^=").casefold() for name in names} - {""}
    if len(patients) > 1:
        return f"name {len(patients)} patients"
    differing = [keyword for keyword, differ in _DIFFERENCES.items() if differ(instances)]
    return f"differ in {' and '.join(differing)}" if differing else None


def _issuers_differ(instances: Sequence[Dataset]) -> bool:
    issuers = {each.casefold() for each in _texts(instances, "IssuerOfPatientID")}
    return len(issuers - {""}) > 1


def _births_differ(instances: Sequence[Dataset]) -> bool:
    return len(_births(instances) - {""}) > 1


def _sexes_differ(instances: Sequence[Dataset]) -> bool:
    return _texts(instances, "PatientSex") >= {"F", "M"}


def _names_differ(instances: Sequence[Dataset]) -> bool:
    """Tell whether two names have nothing in common, and no date of birth vouches for them.

    Mostly, a name that was corrected keeps a part of what it was.
    """
    if "" not in _births(instances):
        return False
    names = map(_words, _texts(instances, "PatientName"))
    return any(_have_nothing_in_common(*pair) for pair in combinations(names, 2))


_DIFFERENCES: Final[dict[str, Callable[[Sequence[Dataset]], bool]]] = {
    "IssuerOfPatientID": _issuers_differ,
    "PatientBirthDate": _births_differ,
    "PatientSex": _sexes_differ,
    "PatientName": _names_differ,
}


def _texts(instances: Iterable[Dataset], keyword: str) -> set[str]:
    return {_text(ds, keyword) for ds in instances}


def _text(ds: Dataset, keyword: str) -> str:
    """Return a value as text; what is illegible as its bytes, so that others are not like it."""
    text = value_of(ds, keyword).strip()
    if _ILLEGIBLE not in text:
        return text
    return (encoded_value(ds, keyword) or b"").decode("latin-1").strip(" \0")


def _births(instances: Iterable[Dataset]) -> set[str]:
    """Return the dates of birth; "" of those that state none, or what is none."""
    return {_date(_text(ds, "PatientBirthDate")) for ds in instances}


def _date(text: str) -> str:
    digits = text.replace(".", "")  # as ACR-NEMA had it
    try:
        return f"{datetime.strptime(digits, '%Y%m%d'):%Y%m%d}"  # noqa: DTZ007  a day has no zone
    except ValueError:
        return ""


def _words(name: str) -> set[str]:
    """Return the words of a name, without case and accents."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return set(re.findall(r"\w+", "".join(c for c in plain if not unicodedata.combining(c))))


def _have_nothing_in_common(one: set[str], other: set[str]) -> bool:
    """Tell whether two names share no word, though they have some in the same kind of script."""
    if one & other:
        return False
    latin, others = (
        all(any(word.isascii() is is_latin for word in words) for words in (one, other))
        for is_latin in (True, False)
    )
    return latin or others
