"""The tables of ``docs/conformance.md``, made from the code; `make conformance` writes them anew.

References
----------
DICOM PS3.2 Annex A
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node import codes, commitment, contexts, entity, modules, ours, query, query_scp
from dicom_node.authored import SERIES_NUMBERS
from dicom_node.services import NodeConfig
from dicom_node.status import Status
from worker.settings import describe_settings

_BLOCK = re.compile(r"(<!-- ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_YES, _NO = "yes", "no"

# PS3.4: what each status of the Storage SCP means here.
_STORED: Final[Mapping[int, str]] = MappingProxyType(
    {
        Status.SUCCESS: "stored durably; or stored before, with the same content; or made by a "
        "cxr-worker, and not kept",
        Status.SOP_CLASS_NOT_SUPPORTED: "a report or key object that no cxr-worker made",
        Status.OUT_OF_RESOURCES: "archive full, not mounted or not writable, or database away; "
        "send it again later",
        Status.DOES_NOT_MATCH_SOP_CLASS: "SOP Class UID or SOP Instance UID differ between request "
        "and data set",
        Status.CANNOT_UNDERSTAND: "the data set cannot be parsed, or a UID that it must have is "
        "missing or invalid",
        Status.OTHER_BYTES_UNDER_THIS_UID: "the SOP Instance UID was stored before with other "
        "content; the first is kept",
    }
)
_QUERIED: Final[Mapping[int, str]] = MappingProxyType(
    {
        query.QueryStatus.SUCCESS: "done",
        query.QueryStatus.OUT_OF_RESOURCES: f"more than {query_scp.MATCH_LIMIT} match, or "
        "too much would have to be searched; ask for less",
        query.QueryStatus.UNABLE_TO_PERFORM_SUB_OPERATIONS: "no report could be handed over, or "
        "the move destination does not associate",
        query.QueryStatus.MOVE_DESTINATION_UNKNOWN: "neither `CXR_PEERS` nor `CXR_DESTINATIONS` "
        "has an address of the move destination",
        query.QueryStatus.IDENTIFIER_DOES_NOT_MATCH: "the identifier cannot be parsed, or lacks "
        "its level or a unique key, or has a key that is too long to be matched",
        query.QueryStatus.SUB_OPERATIONS_FAILED: "some reports could not be handed over",
        query.QueryStatus.UNABLE_TO_PROCESS: "the database is away",
        query.QueryStatus.CANCELLED: "cancelled by the peer",
        query.QueryStatus.PENDING: "a match",
        query.QueryStatus.PENDING_WITHOUT_OPTIONAL_KEYS: "a match; a key that was asked for is "
        "not supported",
    }
)
_NETWORK_SETTINGS: Final = (
    "CXR_AE_TITLE", "CXR_BIND", "CXR_PORT", "CXR_PLAINTEXT", "CXR_TLS_PORT", "CXR_TLS_CERTIFICATE",
    "CXR_TLS_KEY", "CXR_TLS_AUTHORITY", "CXR_DESTINATIONS", "CXR_PEERS", "CXR_ALLOWED_AE_TITLES",
    "CXR_ALLOWED_HOSTS", "CXR_REQUIRE_CALLED_AE_TITLE", "CXR_MAX_ASSOCIATIONS", "CXR_MAXIMUM_PDU",
    "CXR_NETWORK_TIMEOUT_S", "CXR_DELIVERY_TIMEOUT_S", "CXR_QUIET_S",
)  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _named(uid: str) -> tuple[str, str]:
    return UID(uid).name, f"`{uid}`"


def _services() -> str:
    images = contexts.STORAGE_SOP_CLASSES
    rows = [
        (contexts.VERIFICATION, _YES, _YES),
        *((uid, "yes (`cxr-worker send`)", _YES) for uid in images),
        *((uid, _YES, "own ones, not kept") for uid in ours.DOCUMENT_SOP_CLASSES),
        (commitment.PUSH_MODEL, _YES, _YES),
        *((uid, _NO, _YES) for uid in (*query.FIND_SOP_CLASSES, *query.RETRIEVE_SOP_CLASSES)),
    ]
    return table(
        ("network service", "user (SCU)", "provider (SCP)"),
        ((UID(uid).name, *roles) for uid, *roles in rows),
    )


def _node_sop_classes() -> str:
    uids = (
        contexts.VERIFICATION,
        *contexts.STORAGE_SOP_CLASSES,
        *ours.DOCUMENT_SOP_CLASSES,
        commitment.PUSH_MODEL,
        *query.FIND_SOP_CLASSES,
        *query.RETRIEVE_SOP_CLASSES,
    )
    return table(("SOP class", "UID", "role"), ((*_named(uid), "SCP") for uid in uids))


def _associations() -> str:
    default = NodeConfig("CXRWORKER")
    rows = [
        ("Application Context Name", "`1.2.840.10008.3.1.1.1`", ""),
        ("Implementation Class UID", f"`{entity.IMPLEMENTATION_CLASS_UID}`", ""),
        ("Implementation Version Name", f"`{entity.IMPLEMENTATION_VERSION_NAME}`", ""),
        ("Maximum PDU size", f"{default.maximum_pdu} bytes", "`CXR_MAXIMUM_PDU`"),
        (
            "Associations at once",
            f"{default.max_associations} accepted, then rejected as transient",
            "`CXR_MAX_ASSOCIATIONS`",
        ),
        ("Asynchronous operations", "not negotiated", ""),
        ("Extended negotiation, user identity", "not negotiated", ""),
        (
            "Silence before an association is aborted",
            f"{default.network_timeout_s:g} s",
            "`CXR_NETWORK_TIMEOUT_S`",
        ),
        ("Calling AE titles accepted", "all, unless a list is set", "`CXR_ALLOWED_AE_TITLES`"),
        (
            "Called AE titles accepted",
            "all, unless ours is required",
            "`CXR_REQUIRE_CALLED_AE_TITLE`",
        ),
        ("Hosts accepted", "all, unless a list is set", "`CXR_ALLOWED_HOSTS`"),
    ]
    return table(("what", "value", "setting"), rows)


def _transfer_syntaxes() -> str:
    uids = (*contexts.UNCOMPRESSED_TRANSFER_SYNTAXES, *contexts.COMPRESSED_TRANSFER_SYNTAXES)
    return table(("transfer syntax", "UID"), map(_named, uids))


def _statuses(meanings: Mapping[int, str]) -> str:
    return table(("status", "when"), ((f"0x{s:04X}", when) for s, when in meanings.items()))


def _commitment_reasons() -> str:
    rows = [
        ("0x0112", "no such instance is stored here"),
        ("0x0119", "it is stored under another SOP class"),
        ("0x0110", "it cannot be looked up now; ask again"),
        ("0x0131", "the Transaction UID stands for a request for other instances"),
    ]
    return table(("failure reason (0008,1197)", "when"), rows)


def _attribute(keyword: str) -> str:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{dictionary_description(tag)} ({tag.group:04X},{tag.element:04X})"


def _keys(level: str) -> list[str]:
    """Return the keys of a level that are not those of the level above."""
    above = query.LEVELS[: query.LEVELS.index(level)]
    known = query.attributes_of(above[-1]) if above else ()
    return [keyword for keyword in query.attributes_of(level) if keyword not in known]


def _query_keys() -> str:
    rows = ((level, ", ".join(map(_attribute, _keys(level)))) for level in query.LEVELS)
    return table(("level", "matching and return keys"), rows)


def _deliverer_sop_classes() -> str:
    uids = (
        *ours.DOCUMENT_SOP_CLASSES,
        str(SecondaryCaptureImageStorage),
        commitment.PUSH_MODEL,
        contexts.VERIFICATION,
    )
    syntaxes = "Explicit VR Little Endian, Implicit VR Little Endian"
    head = ("SOP class", "UID", "transfer syntaxes", "role")
    return table(head, ((*_named(uid), syntaxes, "SCU") for uid in uids))


def _answers() -> str:
    rows = [
        ("0x0000, 0xB000 to 0xBFFF", "delivered"),
        ("0xA700 to 0xA7FF, no association, no answer in time", "tried again"),
        (
            "0xA900 to 0xA9FF, 0xC000 to 0xCFFF, 0x01xx, 0x02xx except 0x0213",
            "given up, for a person",
        ),
        ("none of the report's SOP classes accepted", "given up, for a person"),
    ]
    return table(("answer", "behaviour"), rows)


def _settings() -> str:
    known = {key: (default, meaning) for key, default, meaning in describe_settings()}
    return table(
        ("setting", "default", "meaning"),
        ((f"`{key}`", f"`{known[key][0]}`" if known[key][0] else "", known[key][1])
         for key in _NETWORK_SETTINGS),
    )  # fmt: skip


def _objects() -> str:
    rows = [
        ("Structured Report", ", ".join(UID(uid).name for uid in contexts.REPORT_SOP_CLASSES), "SR",
         "one for each study, revised when its answers change"),
        ("Picture", SecondaryCaptureImageStorage.name, "OT",
         "one for each assessed image, with heat map and banner; Burned In Annotation YES"),
        ("Flag", KeyObjectSelectionDocumentStorage.name, "KO",
         "one for each study in which a pneumonia is present"),
    ]  # fmt: skip
    head = ("object", "SOP class", "modality", "series numbers", "when")
    return table(
        head,
        (
            (name, sop_class, modality, f"{SERIES_NUMBERS[modality]} and up", when)
            for name, sop_class, modality, when in rows
        ),
    )


def _templates() -> str:
    rows = [
        ("TID 1500 Measurement Report", "root of the report"),
        ("TID 1204 Language of Content Item and Descendants", "English"),
        ("TID 1001, 1002, 1004 Observation Context", "the device: model, version, weight digest"),
        ("TID 1600 Image Library", "all instances of the study"),
        ("TID 1410 Planar ROI Measurements", "one group for each image; the region is the whole "
         "field"),
        ("TID 1501 Measurement and Qualitative Evaluation Group", "one group for each image whose "
         "size is not known"),
        ("TID 300 Measurement", "the scores"),
        ("TID 4019 Algorithm Identification", "name, version, threshold, temperature, weight "
         "digest"),
        ("TID 2010 Key Object Selection", "root of the flag"),
    ]  # fmt: skip
    return table(("template", "for"), rows)


def _identity() -> str:
    rows = [
        ("2", ", ".join(map(_attribute, modules.TYPE_2))),
        ("1C, 2C, 3", ", ".join(map(_attribute, modules.TYPE_3))),
    ]
    return table(("type", "attributes of the Patient and Study modules"), rows)


def _code(code: Code) -> str:
    return f"{code.meaning} ({code.value}, {code.scheme_designator})"


def _codes() -> str:
    rows = [
        ("Procedure reported", _code(codes.IMAGING_PROCEDURE)),
        ("Language", _code(codes.ENGLISH)),
        ("Algorithm family", _code(codes.ARTIFICIAL_INTELLIGENCE)),
        ("Finding", _code(codes.PNEUMONIA)),
        ("Finding site", _code(codes.LUNG)),
        (_code(codes.PRESENCE), "; ".join(map(_code, codes.ANSWERS.values()))),
        ("Score of a calibrated model, in percent", _code(codes.PROBABILITY)),
        ("Score of any other model, in percent", _code(codes.CERTAINTY)),
        (
            "Kind of a pneumonia, in percent",
            f"{_code(codes.BACTERIAL_PNEUMONIA)}; {_code(codes.VIRAL_PNEUMONIA)}",
        ),
        ("The result in a sentence", _code(codes.SUMMARY)),
        ("What else a reader must know", _code(codes.COMMENT)),
    ]
    return table(("concept", "codes"), rows)


def _reasons() -> str:
    return table(
        ("reason", "in words", f"{codes.QUALITY_FINDING.meaning} (CID 6135)"),
        (
            (f"`{name}`", words, "" if code is None else _code(code))
            for name, (words, code) in codes.NOT_ASSESSED_REASONS.items()
        ),
    )


TABLES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "services": _services,
        "node-sop-classes": _node_sop_classes,
        "associations": _associations,
        "transfer-syntaxes": _transfer_syntaxes,
        "storage-statuses": lambda: _statuses(_STORED),
        "commitment-reasons": _commitment_reasons,
        "query-keys": _query_keys,
        "query-statuses": lambda: _statuses(_QUERIED),
        "deliverer-sop-classes": _deliverer_sop_classes,
        "answers": _answers,
        "settings": _settings,
        "objects": _objects,
        "templates": _templates,
        "identity": _identity,
        "codes": _codes,
        "reasons": _reasons,
    }
)


def written(statement: str) -> str:
    """Return the statement with each table as the code has it.

    Raises
    ------
    KeyError
        When it asks for a table that there is none of.
    """
    return _BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], statement)


def main() -> None:
    """Write the tables of the files named on the command line."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(written(path.read_text()))


if __name__ == "__main__":
    main()
