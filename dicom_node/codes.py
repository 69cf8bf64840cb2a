"""Coded concepts as data, and why an instance may stay unassessed.

References
----------
DICOM PS3.16 Annex B (context groups), Annex D (DCM definitions)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

# What TID 1500 is made of, from its root down.
REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")  # TID 1204
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")  # TID 1002, TID 1004
DEVICE_UID: Final = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME: Final = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL_NAME: Final = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL_NUMBER: Final = Code("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
GROUP: Final = Code("125007", "DCM", "Measurement Group")  # TID 1410, TID 1501
TRACKING: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
IMAGE_REGION: Final = Code("111030", "DCM", "Image Region")
ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")  # TID 4019
ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_FAMILY: Final = Code("111000", "DCM", "Algorithm Family")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")  # TID 320

# What it is filled with.
ENGLISH: Final = Code("en", "RFC5646", "English")  # TID 1204
# Procedure reported: CID 100 has no radiograph of the chest, and strict readers want one of it.
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")  # TID 1600
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
SOURCE: Final = Code("260753009", "SCT", "Source")
SUMMARY: Final = Code("121111", "DCM", "Summary")
QUALITY_FINDING: Final = Code("111052", "DCM", "Quality Finding")
ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
PROCESSED_IMAGE: Final = Code(
    "121322", "DCM", "Source image for image processing operation"
)  # CID 7202
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")  # CID 7010
COMMENT: Final = Code("121106", "DCM", "Comment")
FINDING: Final = Code("121071", "DCM", "Finding")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
CHEST_REGION: Final = Code("816094009", "SCT", "Chest")  # CID 4031
DEVICE: Final = Code("121007", "DCM", "Device")  # CID 270
STUDY_INSTANCE_UID: Final = Code("110180", "DCM", "Study Instance UID")
LUNG: Final = Code("39607008", "SCT", "Lung")
PNEUMONIA: Final = Code("233604007", "SCT", "Pneumonia")
BACTERIAL_PNEUMONIA: Final = Code("53084003", "SCT", "Bacterial pneumonia")
VIRAL_PNEUMONIA: Final = Code("75570004", "SCT", "Viral pneumonia")
PRESENCE: Final = Code("121052", "DCM", "Presence of property")
PROBABILITY: Final = Code("122157", "DCM", "Probability")  # of a calibrated model
CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")  # of any other
PERCENT: Final = Code("%", "UCUM", "Percent")

# CID 240 (Present-Absent) and CID 241's "undetermined": the three answers.
ANSWERS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "PRESENT": Code("52101004", "SCT", "Present"),
        "ABSENT": Code("272519000", "SCT", "Absent"),
        "UNDETERMINED": Code("373068000", "SCT", "Undetermined"),
    }
)

# CID 4010 DX View, by View Position (0018,5101)
VIEWS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "AP": Code("399348003", "SCT", "antero-posterior"),
        "PA": Code("272479007", "SCT", "postero-anterior"),
        "LL": Code("399173006", "SCT", "left lateral"),
        "RL": Code("399198007", "SCT", "right lateral"),
    }
)

# CID 6135 Image Quality Finding
_POSITIONING: Final = Code("111209", "DCM", "Positioning")
_NO_IMAGE: Final = Code("111213", "DCM", "No image")
_INAPPROPRIATE_PROCESSING: Final = Code("111219", "DCM", "Inappropriate image processing")
_SOFTWARE_FAILURE: Final = Code("111218", "DCM", "Software failure")
_OTHER_FAILURE: Final = Code("111220", "DCM", "Other failure")

# Reason code -> (what a radiologist reads, CID 6135 code or None where DICOM has none).
NOT_ASSESSED_REASONS: Final[Mapping[str, tuple[str, Code | None]]] = MappingProxyType(
    {
        "NOT_CHEST": ("the image is not a chest radiograph", None),
        "NOT_FRONTAL": ("the image is not a frontal view", _POSITIONING),
        "ROTATED": ("the image is rotated", _POSITIONING),
        "INVERTED": ("the image's grey scale is inverted", _INAPPROPRIATE_PROCESSING),
        "BLANK": ("the image is blank", _NO_IMAGE),
        "OUTSIDE_POPULATION": ("the patient is outside the intended population", None),
        "FOR_PROCESSING": (
            "the image is for processing only, not for presentation",
            _INAPPROPRIATE_PROCESSING,
        ),
        "UNSUPPORTED_SOP_CLASS": ("images of this SOP class are not supported", None),
        "UNSUPPORTED_PHOTOMETRIC": ("its photometric interpretation is not supported", None),
        "UNSUPPORTED_TRANSFER_SYNTAX": ("its transfer syntax is not supported", None),
        "MULTI_FRAME": ("the instance has more than one frame", None),
        "TOO_LARGE": ("the image is too large", None),
        "NO_PIXELS": ("the instance has no pixel data", _NO_IMAGE),
        "UNDECODABLE": ("the image cannot be decoded", _OTHER_FAILURE),
        "MODEL_FAILURE": ("the analysis failed", _SOFTWARE_FAILURE),
        "WORKER_FAILURE": ("the worker that had the image died each time", _SOFTWARE_FAILURE),
        "REMOVED": ("the image is kept no longer", None),
        "ANOTHER_PATIENT": ("it names another patient than the first image of its study", None),
    }
)

# What a flag of a finding says to the reader; the finding stands.
FLAG_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AGE_UNKNOWN": "the patient's age is not known",
        "OUTSIDE_POPULATION": "the patient is outside the intended population",
    }
)


def code_item(code: Code) -> Dataset:
    """Return a code as the item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
