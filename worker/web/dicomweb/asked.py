"""What a search asks for: keys to match, what to return, and which of the matches.

References
----------
DICOM PS3.18 8.3.4, 10.6.1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from fastapi import HTTPException
from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.matching import LONGEST_KEY, MOST_VALUES
from dicom_node.query import LEVELS, UNIQUE_KEYS, Wanted, attributes_of

# PS3.18 Tables 10.6.3-3, -4 and -5: what is told without being asked for, as far as we know it.
RETURNED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "STUDY": (
            "StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability",
            "ModalitiesInStudy", "ReferringPhysicianName", "StudyDescription", "PatientName",
            "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
            "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
        ),
        "SERIES": (
            "Modality", "SeriesDescription", "SeriesDate", "SeriesTime", "SeriesInstanceUID",
            "SeriesNumber", "NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate",
            "PerformedProcedureStepStartTime", "RequestAttributesSequence",
        ),
        "IMAGE": (
            "SOPClassUID", "SOPInstanceUID", "InstanceAvailability", "InstanceNumber",
            "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
        ),
    }
)  # fmt: skip
# Only of the level itself is it known how many there are.
_COUNTS: Final = frozenset(
    {"NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "ModalitiesInStudy",
     "SOPClassesInStudy", "NumberOfSeriesRelatedInstances"}
)  # fmt: skip

# 8.3.4: what is no attribute. The last two ask for what we do not offer.
_ABOUT: Final = frozenset(
    {"limit", "offset", "includefield", "fuzzymatching", "accept", "charset",
     "emptyvaluematching", "multiplevaluematching"}
)  # fmt: skip
DEFAULT_LIMIT: Final = 100
MOST: Final = 1000
_FARTHEST: Final = 1_000_000
_MOST_KEYS: Final = 64
_MOST_UIDS: Final = 1000
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
# PS3.18 8.3.4.1: a list of UIDs. Of codes there is no other use for a comma (PS3.5 6.2).
_LISTS: Final = frozenset({"UI", "CS"})

FUZZY: Final = (
    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
)


@dataclass(frozen=True, slots=True)
class Search:
    """A search.

    Attributes
    ----------
    wanted : Wanted
        Level and keys.
    returned : frozenset of str
        Keywords of what is told of each match.
    warnings : tuple of str
        What of it is not done.
    """

    wanted: Wanted
    returned: frozenset[str]
    limit: int
    offset: int
    warnings: tuple[str, ...]


def read_search(
    level: str, within: Mapping[str, str], parameters: Iterable[tuple[str, str]]
) -> Search:
    """Read what a request asks for.

    Parameters
    ----------
    level
        STUDY, SERIES or IMAGE.
    within
        Unique keys that the path names.
    parameters
        Of the query.

    Raises
    ------
    HTTPException
        400, with what is wrong.
    """
    keys, about = _sorted_out(parameters)
    identifier, unknown = Dataset(), []
    supported = attributes_of(level)
    for path, value in _once([*within.items(), *keys]):
        if path[0] in supported:
            _put(identifier, path, value)
        else:
            unknown.append(path[0])
    returned = _returned(level, within, keys, about["includefield"])
    # So it is counted, which costs.
    if "NumberOfStudyRelatedSeries" in returned and "NumberOfStudyRelatedSeries" not in identifier:
        identifier.add_new("NumberOfStudyRelatedSeries", "IS", None)
    return Search(
        Wanted(level, identifier),
        returned,
        _whole(about, "limit", DEFAULT_LIMIT, MOST),
        _whole(about, "offset", 0, _FARTHEST),
        tuple(_warnings(about, unknown)),
    )


def _sorted_out(
    parameters: Iterable[tuple[str, str]],
) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Tell keys from what else is said."""
    keys: list[tuple[str, str]] = []
    about: dict[str, list[str]] = {name: [] for name in _ABOUT}
    for name, value in parameters:
        if name in about:
            about[name].append(value)
        else:
            keys.append((name, value))
    if len(keys) > _MOST_KEYS:
        raise HTTPException(400, f"At most {_MOST_KEYS} attributes are matched.")
    return keys, about


def _once(keys: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Read the names of keys; each comes once, by whatever name, or in the path (8.3.4.1)."""
    found: dict[tuple[str, ...], str] = {}
    for name, value in keys:
        path = tuple(_path(name))
        if path in found:
            words = f"{'.'.join(path)} is given twice; give it once, with all its values."
            raise HTTPException(400, words)
        found[path] = value
    return [(list(path), value) for path, value in found.items()]


def _path(name: str) -> list[str]:
    """Give the keywords of an attribute, from without to within."""
    found = [_keyword(each) for each in name.split(".")]
    if len(found) > 2 or (len(found) == 2 and dictionary_VR(found[0]) != "SQ"):
        raise HTTPException(400, "Attributes are matched in the items of one sequence at most.")
    return found


def _keyword(name: str) -> str:
    tag = int(name, 16) if _TAG.fullmatch(name) else tag_for_keyword(name)
    keyword = keyword_for_tag(tag) if tag is not None else ""
    if not keyword:
        said = name[:64].encode("ascii", "replace").decode()
        raise HTTPException(400, f"{said} is no attribute: give a keyword, or a tag of 8 digits.")
    return keyword


def _put(identifier: Dataset, path: list[str], value: str) -> None:
    """Set a key."""
    if len(path) == 2:
        if not identifier.get(path[0]):
            identifier.add_new(path[0], "SQ", Sequence([Dataset()]))
        _put(identifier[path[0]].value[0], path[1:], value)
        return
    vr = dictionary_VR(path[0])
    values: Any = value
    if vr in _LISTS:
        values = [each.strip() for each in re.split(r"[,\\]", value)]
    _require_brief(path[0], vr, value)
    try:
        tag = tag_for_keyword(path[0]) or 0
        kept = [] if vr == "SQ" else values
        identifier.add(DataElement(tag, vr.split(" ")[0], kept, validation_mode=config.IGNORE))
    except Exception as error:
        raise HTTPException(400, f"{path[0]} cannot have such a value.") from error


def _require_brief(keyword: str, vr: str, value: str) -> None:
    """Refuse what nobody seeks, but which would take long to be sought.

    Raises
    ------
    HTTPException
        400.
    """
    most = _MOST_UIDS if vr == "UI" else MOST_VALUES
    if len(re.findall(r"[,\\]" if vr in _LISTS else r"\\", value)) >= most:
        raise HTTPException(400, f"{keyword} is matched with at most {most} values.")
    if vr != "UI" and len(value) > LONGEST_KEY:
        raise HTTPException(400, f"{keyword} is matched with at most {LONGEST_KEY} characters.")


def _returned(
    level: str,
    within: Mapping[str, str],
    keys: list[tuple[str, str]],
    fields: list[str],
) -> frozenset[str]:
    """Give the keywords of what is told: that of the level, what was asked for, what was matched.

    Of the levels above it is told as well, unless the path says which one is meant.
    """
    above = [each for each in LEVELS[1 : LEVELS.index(level)] if UNIQUE_KEYS[each] not in within]
    told = {keyword for each in above for keyword in RETURNED[each] if keyword not in _COUNTS} | {
        *RETURNED[level],
        *within,
    }
    told |= {UNIQUE_KEYS[each] for each in LEVELS[1 : LEVELS.index(level) + 1]}
    asked = [each for field in fields for each in field.split(",") if each]
    if "all" in asked:
        told |= {each for each in attributes_of(level) if each not in _COUNTS}
    told |= {_path(each)[0] for each in asked if each != "all"}
    told |= {_path(name)[0] for name, _ in keys}
    return frozenset(told & {*attributes_of(level)})


def _whole(about: Mapping[str, list[str]], name: str, default: int, most: int) -> int:
    given = about[name]
    if not given:
        return default
    if len(given) > 1 or not re.fullmatch(r"[0-9]{1,9}", given[0]):
        raise HTTPException(400, f"{name} is a whole number from 0.")
    return min(int(given[0]), most)


def _warnings(about: Mapping[str, list[str]], unknown: list[str]) -> Iterable[str]:
    if "true" in about["fuzzymatching"]:
        yield FUZZY
    for name in ("emptyvaluematching", "multiplevaluematching"):
        if "true" in about[name]:
            yield f"The {name} parameter is not supported."
    if unknown:
        yield f"Not matched, as they are not known here: {', '.join(sorted(set(unknown)))}."
