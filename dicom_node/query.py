"""What a query or a retrieval asks for: its levels, its keys, and how it may fail.

References
----------
DICOM PS3.4 C.4, C.6
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.matching import is_too_long, values_of

PATIENT_ROOT_FIND, STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.2.2"
PATIENT_ROOT_GET, STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3", "1.2.840.10008.5.1.4.1.2.2.3"
FIND_SOP_CLASSES: Final = (STUDY_ROOT_FIND, PATIENT_ROOT_FIND)
RETRIEVE_SOP_CLASSES: Final = (
    STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE, STUDY_ROOT_GET, PATIENT_ROOT_GET,
)  # fmt: skip
_PATIENT_ROOT: Final = frozenset({PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET})


class QueryStatus(IntEnum):
    """The statuses of Query/Retrieve (PS3.4 Tables C.4-1, C.4-2 and C.4-3)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    UNABLE_TO_PERFORM_SUB_OPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    IDENTIFIER_DOES_NOT_MATCH = 0xA900
    SUB_OPERATIONS_FAILED = 0xB000
    UNABLE_TO_PROCESS = 0xC001
    CANCELLED = 0xFE00
    PENDING = 0xFF00
    PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01


# PS3.4 C.6.1.1, C.6.2.1: the levels, each with its unique key and what else is matched and
# returned. Of a level, the attributes of those above it are known too.
UNIQUE_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
        "IMAGE": "SOPInstanceUID",
    }
)
LEVELS: Final = tuple(UNIQUE_KEYS)
_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "PATIENT": (
            "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
            "PatientBirthTime", "PatientSex", "OtherPatientIDs", "EthnicGroup", "PatientComments",
        ),
        "STUDY": (
            "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber",
            "IssuerOfAccessionNumberSequence", "StudyID", "StudyDescription",
            "ReferringPhysicianName", "ProcedureCodeSequence", "PatientAge", "PatientSize",
            "PatientWeight", "NameOfPhysiciansReadingStudy", "ModalitiesInStudy",
            "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
            "InstanceAvailability",
        ),
        "SERIES": (
            "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate",
            "SeriesTime", "BodyPartExamined", "Laterality", "ProtocolName", "OperatorsName",
            "PerformingPhysicianName", "StationName", "Manufacturer", "ManufacturerModelName",
            "InstitutionName", "InstitutionalDepartmentName", "PerformedProcedureStepStartDate",
            "PerformedProcedureStepStartTime", "RequestAttributesSequence",
            "NumberOfSeriesRelatedInstances",
        ),
        "IMAGE": (
            "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "ContentDate", "ContentTime",
            "AcquisitionDate", "AcquisitionTime", "ImageType", "ViewPosition",
            "ConceptNameCodeSequence", "CompletionFlag", "VerificationFlag", "ContentLabel",
            "ContentDescription", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
        ),
    }
)  # fmt: skip


def attributes_of(level: str) -> tuple[str, ...]:
    """Return the keywords that are matched and returned at a level."""
    upto = LEVELS[: LEVELS.index(level) + 1]
    return tuple(keyword for each in upto for keyword in _ATTRIBUTES[each])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query or a retrieval asks for.

    Attributes
    ----------
    level : str
        PATIENT, STUDY, SERIES or IMAGE.
    identifier : Dataset
        The keys.
    """

    level: str
    identifier: Dataset

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a key; none when it is absent or empty."""
        element = self.identifier.get(Tag(tag_for_keyword(keyword) or 0))
        return tuple(value for value in values_of(element) if value)


class QueryFailure(Exception):
    """Ends a query or a retrieval; its text is the Error Comment (0000,0902).

    Parameters
    ----------
    status : QueryStatus
        What it is answered with.
    comment : str
        VR LO: 64 characters, never patient data.
    """

    def __init__(self, status: QueryStatus, comment: str) -> None:
        super().__init__(comment[:64])
        self.status = status


def read_wanted(identifier: Dataset, sop_class_uid: str) -> Wanted:
    """Read and check an identifier (PS3.4 C.4.1.1.3).

    Parameters
    ----------
    identifier : Dataset
        As decoded, but not yet parsed.
    sop_class_uid : str
        Of the request; tells the information model.

    Raises
    ------
    QueryFailure
        0xA900, with what is wrong.
    """
    bad = partial(QueryFailure, QueryStatus.IDENTIFIER_DOES_NOT_MATCH)
    try:
        # pydicom parses only now
        too_long = [key.keyword for key in identifier.iterall() if is_too_long(key)]
        level = "".join(values_of(identifier.get(Tag("QueryRetrieveLevel"))))
    except Exception as error:
        raise bad("The identifier cannot be parsed") from error
    if too_long:
        raise bad(f"{too_long[0]} is too long to be matched")
    levels = LEVELS if sop_class_uid in _PATIENT_ROOT else LEVELS[1:]
    if level not in levels:
        raise bad(f"QueryRetrieveLevel must be one of {', '.join(levels)}")
    wanted = Wanted(level, identifier)
    for above in levels[: levels.index(level)]:
        values = wanted.values(UNIQUE_KEYS[above])
        # PS3.4 C.4.1.2.1: without relational queries, one entity of each level above.
        if len(values) != 1 or set("*?") & set(values[0]):
            raise bad(f"{level} level needs one {UNIQUE_KEYS[above]}")
    return wanted


def read_retrieval(identifier: Dataset, sop_class_uid: str) -> Wanted:
    """Read and check the identifier of a C-MOVE or C-GET (PS3.4 C.4.2.1.4.1, C.4.3.1.3.1).

    What is wanted is named: by one or more UIDs, at PATIENT level by one Patient ID.

    Raises
    ------
    QueryFailure
        As `read_wanted`, and when the unique key of the level is missing or a pattern.
    """
    wanted = read_wanted(identifier, sop_class_uid)
    key = UNIQUE_KEYS[wanted.level]
    values = wanted.values(key)
    several = len(values) > 1 and wanted.level == "PATIENT"
    if not values or several or set("*?") & set("".join(values)):
        why = f"A retrieval at {wanted.level} level names its {key}"
        raise QueryFailure(QueryStatus.IDENTIFIER_DOES_NOT_MATCH, why)
    return wanted
