"""Query SCP: what the node holds, and what it made of it.

References
----------
DICOM PS3.4 C.4.1; PS3.7 9.1.2
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from dicom_node.matching import CONTROL_KEYWORDS, matches
from dicom_node.query import (
    UNIQUE_KEYS,
    QueryFailure,
    QueryStatus,
    Wanted,
    attributes_of,
    read_wanted,
)

log = logging.getLogger(__name__)

# More matches than anybody reads: whoever asks for so many is told to ask for less.
MATCH_LIMIT: Final = 1000
# Names are read from files: more of them would keep the peer waiting beyond its patience.
SEARCH_LIMIT: Final = 10000

Find = Callable[[Wanted], Iterable[Dataset]]
# Answers that wait to be sent, and how often that is looked at.
_MOST_UNSENT = 8
_LOOK_S = 0.001

_Answer = tuple[int | Dataset, Dataset | None]


def answer_find(event: Any, find: Find, ae_title: str) -> Iterator[_Answer]:
    """Answer C-FIND.

    Parameters
    ----------
    event : pynetdicom.events.Event
        ``EVT_C_FIND``.
    find : callable
        Gives entities that may match, newest first, each with what is known of it; those with a
        Retrieve AE Title, of whatever value, can be retrieved from here.
    ae_title : str
        Ours, for Retrieve AE Title.

    Yields
    ------
    tuple of (int or Dataset, Dataset or None)
        Status and identifier, as the library takes them.
    """
    try:
        yield from _matches(event, find, ae_title)
    except QueryFailure as error:
        yield _failed(error), None
    except Exception as error:  # noqa: BLE001 - a peer is answered, whatever happens here
        # The text of a database's error quotes values.
        log.error("a query failed: %s", type(error).__name__)  # noqa: TRY400
        yield _failed(QueryFailure(QueryStatus.UNABLE_TO_PROCESS, "The node cannot answer")), None


def _failed(error: QueryFailure) -> Dataset:
    log.warning("C-FIND refused, 0x%04X: %s", error.status, error)
    ds = Dataset()
    ds.Status = int(error.status)
    ds.ErrorComment = str(error)
    return ds


def _matches(event: Any, find: Find, ae_title: str) -> Iterator[_Answer]:
    wanted = read_wanted(_identifier(event), event.request.AffectedSOPClassUID)
    syntax = UID(event.context.transfer_syntax)
    supported = attributes_of(wanted.level)
    asked = {keyword_for_tag(tag) for tag in wanted.identifier.keys()}  # noqa: SIM118
    complete = asked <= {*supported, *CONTROL_KEYWORDS}
    status = QueryStatus.PENDING if complete else QueryStatus.PENDING_WITHOUT_OPTIONAL_KEYS
    count = 0
    for number, entity in enumerate(find(wanted)):
        _wait_for_room(event.assoc)
        if event.is_cancelled:
            yield QueryStatus.CANCELLED, None
            return
        if number == SEARCH_LIMIT:
            raise too_many()
        # Before the match, which decodes what it looks at.
        answer = _answer(entity, wanted, syntax, ae_title)
        if not matches(entity, wanted.identifier, supported):
            continue
        if encode(answer, syntax.is_implicit_VR, syntax.is_little_endian) is None:
            log.error("C-FIND leaves out what cannot be encoded: %s", _name(entity, wanted))
            continue
        if count == MATCH_LIMIT:
            why = f"More than {MATCH_LIMIT} match; ask for less"
            raise QueryFailure(QueryStatus.OUT_OF_RESOURCES, why)
        count += 1
        yield status, answer


def too_many() -> QueryFailure:
    """Say that more would have to be looked at than anybody waits for."""
    why = "Too many to search; give an ID, an accession number or a date"
    return QueryFailure(QueryStatus.OUT_OF_RESOURCES, why)


def _wait_for_room(assoc: Any) -> None:
    """Run no further ahead of what goes out: a peer that cancels shall not get all there is."""
    dul = assoc.dul
    while dul.to_provider_queue.qsize() > _MOST_UNSENT and not assoc.dimse.cancel_req:
        # That the peer is gone, the association itself hears only from the thread that waits here.
        if not (assoc.is_established and dul.is_alive()) or assoc.acse.is_aborted():
            return
        time.sleep(_LOOK_S)


def _identifier(event: Any) -> Dataset:
    try:
        identifier: Dataset = event.identifier
    except Exception as error:
        why = "The identifier cannot be parsed"
        raise QueryFailure(QueryStatus.IDENTIFIER_DOES_NOT_MATCH, why) from error
    return identifier


def _answer(entity: Dataset, wanted: Wanted, syntax: UID, ae_title: str) -> Dataset:
    """Return what was asked for, as the entity has it, byte for byte where it is text."""
    answer = Dataset()
    unique = Tag(tag_for_keyword(UNIQUE_KEYS[wanted.level]) or 0)
    for tag in {*wanted.identifier.keys(), unique}:
        if tag.is_private or tag.element == 0 or keyword_for_tag(tag) in CONTROL_KEYWORDS:
            continue
        _copy(entity, answer, tag)
    if "SpecificCharacterSet" in entity:
        _copy(entity, answer, Tag("SpecificCharacterSet"))
    answer.QueryRetrieveLevel = wanted.level
    if "RetrieveAETitle" in entity:
        answer.RetrieveAETitle = ae_title
    # Otherwise pydicom decodes and encodes again.
    answer.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian, _encodings(answer))
    return answer


def _encodings(ds: Dataset) -> Any:
    try:
        terms = ds.get("SpecificCharacterSet")
        return convert_encodings(terms) if terms else default_encoding
    except (LookupError, ValueError):
        return default_encoding


def _copy(entity: Dataset, answer: Dataset, tag: BaseTag) -> None:
    """Copy an element, not decoded if it has not been; what is not known becomes empty."""
    element = entity.get_item(tag) if tag in entity else None
    vr = dictionary_VR(tag) if keyword_for_tag(tag) else "UN"
    if element is None:
        answer.add_new(tag, vr.split(" ", maxsplit=1)[0], [] if vr == "SQ" else None)
    elif element.is_raw and vr in _TEXT_VRS:
        value = element.value or b""
        answer[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    else:
        answer[tag] = entity[tag]


# Of these the bytes are the same in every transfer syntax (PS3.5 6.2).
_TEXT_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}
)


def _name(entity: Dataset, wanted: Wanted) -> str:
    """Name an entity in the log, without naming a patient."""
    keyword = "StudyInstanceUID" if wanted.level == "PATIENT" else UNIQUE_KEYS[wanted.level]
    return str(entity.get(keyword, ""))
