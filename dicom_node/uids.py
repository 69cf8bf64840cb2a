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
TEMPLATE_VERSION: Final = "2"


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


def companion_series_uid(study_instance_uid: str, model_digest: str, kind: str) -> str:
    """Return the UID of the series of a study's companions of a kind, by one model."""
    return derived_uid("series", study_instance_uid, model_digest, kind)


def companion_uid(series_instance_uid: str, *parts: str) -> str:
    """Return the SOP Instance UID of a companion, in its series.

    It does not depend on the report: what a later revision does not change is the same object.

    Parameters
    ----------
    series_instance_uid : str
        From `companion_series_uid`: it tells study, model and kind.
    *parts : str
        What the companion shows: the SOP Instance UIDs of images, the answer.
    """
    return derived_uid("companion", series_instance_uid, *parts)


def fallback_uid(sop_instance_uid: str, sop_class_uid: str) -> str:
    """Return the SOP Instance UID of a report as another SOP class."""
    return derived_uid("as", sop_instance_uid, sop_class_uid)
