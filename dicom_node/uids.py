"""UIDs that follow from what an object says: made again, it is the same object.

References
----------
DICOM PS3.5 B.2 (UUID derived UID)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

# Part of every report's UID: a report built in another way is another object.
TEMPLATE_VERSION: Final = "1"


def derived_uid(*parts: str) -> str:
    """Return the UID that belongs to `parts`, and to no others (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(10).join(parts)).int}"


def report_uid(
    study_instance_uid: str,
    evidence_uids: Iterable[str],
    model_digest: str,
    template_version: str = TEMPLATE_VERSION,
) -> str:
    """Return the SOP Instance UID of a report, the same for the same arguments.

    The order of `evidence_uids`, and doubles among them, do not matter.
    """
    uids = sorted(set(map(str, evidence_uids)))
    return derived_uid("report", study_instance_uid, model_digest, template_version, *uids)


def report_series_uid(study_instance_uid: str, model_digest: str) -> str:
    """Return the UID of the series of a study's reports by one model."""
    return derived_uid("series", study_instance_uid, model_digest)


def companion_uid(report_uid: str, kind: str, *parts: str) -> str:
    """Return the SOP Instance UID of what goes with a report.

    Parameters
    ----------
    report_uid : str
        SOP Instance UID of the report.
    kind : str
        Such as ``PICTURE`` or ``KEY_OBJECT``.
    *parts : str
        What else tells it apart: of a picture, the SOP Instance UID of its image.
    """
    return derived_uid("companion", report_uid, kind, *parts)


def companion_series_uid(study_instance_uid: str, model_digest: str, kind: str) -> str:
    """Return the UID of the series of a study's companions of a kind, by one model."""
    return derived_uid("series", study_instance_uid, model_digest, kind)


def fallback_uid(sop_instance_uid: str, sop_class_uid: str) -> str:
    """Return the SOP Instance UID of a report as another SOP class."""
    return derived_uid("as", sop_instance_uid, sop_class_uid)
