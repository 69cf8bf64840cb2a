"""The content tree of a report, TID 1500.

References
----------
DICOM PS3.16 TID 1500, TID 1410, TID 1501, TID 4019
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.content_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    SELECTED_FROM,
    code,
    container,
    image,
    outline,
    percentage,
    text,
    uid_reference,
)
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import value_of
from dicom_node.sentence import (
    answer_of,
    numbered_findings,
    percent,
    place_in_viewer,
    reason_of,
    reason_sentence,
    summary,
)
from dicom_node.uids import derived_uid

KINDS = (
    "Bacterial and viral: how likely each is if there is a pneumonia; much less certain than the"
    " pneumonia itself."
)
TEMPLATE: Final = "1500"
# Planar ROI Measurements; Measurement and Qualitative Evaluation Group.
_OF_A_REGION, _OF_AN_IMAGE = "1410", "1501"
_MOST_PIXELS: Final = 0xFFFF  # Rows and Columns have VR US
_MOST_DEVICES = 8  # models that take turns


def content_of(
    evidence: Sequence[Dataset], findings: Sequence[InstanceFinding], device: AlgorithmDevice
) -> list[bytes]:
    """Return what the root of the report contains: its content items, in the order of TID 1500.

    Parameters
    ----------
    evidence : sequence of Dataset
        The study's instances; a finding's image number is its place here, from 1.
    findings : sequence of InstanceFinding
        Each about one of `evidence`; of what has none it is said that it was not assessed.
    device : AlgorithmDevice
        What made the findings.
    """
    numbered = numbered_findings(evidence, findings)
    # TID 1500 is extensible and its order significant: what is ours goes before its last row.
    return [
        code(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH),
        *_observer(device),
        code(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, codes.IMAGING_PROCEDURE),
        _image_library(evidence),
        text(CONTAINS, codes.SUMMARY, summary(evidence, findings, device)),
        container(codes.MEASUREMENTS, [_group(*each, device) for each in numbered]),
    ]


@lru_cache(maxsize=_MOST_DEVICES)
def _observer(device: AlgorithmDevice) -> list[bytes]:
    """Return the device as observer (TID 1002, TID 1004)."""
    uid = device.device_uid or derived_uid("device", device.manufacturer, device.digest)
    told = {
        codes.DEVICE_NAME: device.station_name or device.manufacturer,
        codes.DEVICE_MANUFACTURER: device.manufacturer,
        codes.DEVICE_MODEL_NAME: device.name,
        codes.DEVICE_SERIAL_NUMBER: device.digest[:16],
    }
    return [
        code(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE),
        uid_reference(HAS_OBS_CONTEXT, codes.DEVICE_UID, uid),
        *(text(HAS_OBS_CONTEXT, name, value) for name, value in told.items()),
    ]


def _image_library(evidence: Sequence[Dataset]) -> bytes:
    """Return the list of images (TID 1600): some viewers read no report without."""
    images = [image(CONTAINS, codes.SOURCE, *_named(ds)) for ds in evidence]
    return container(codes.IMAGE_LIBRARY, [container(codes.IMAGE_LIBRARY_GROUP, images)])


def _named(ds: Dataset) -> tuple[str, str]:
    return value_of(ds, "SOPClassUID"), value_of(ds, "SOPInstanceUID")


@lru_cache(maxsize=_MOST_DEVICES)
def _algorithm(device: AlgorithmDevice) -> list[bytes]:
    """Return the algorithm identification (TID 4019)."""
    low, high = device.undetermined
    parameters = (
        f"threshold: {device.threshold:.6g}",
        f"undetermined: {low:.6g} to {high:.6g}",
        f"temperature: {device.temperature:.6g}",
        f"weights: sha256 {device.digest}",
    )
    return [
        text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, device.name),
        text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, device.version),
        *(text(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, each) for each in parameters),
        code(HAS_CONCEPT_MOD, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE),
    ]


def _group(number: int, ds: Dataset, finding: InstanceFinding, device: AlgorithmDevice) -> bytes:
    """Return what is said about one image (TID 1410; TID 1501 of an image of unknown size).

    In the order of either template, which is significant.
    """
    size = _size(ds)
    return container(
        codes.GROUP,
        [
            *_tracking(number, ds, finding, device),
            *_finding(finding),
            *([] if size is None else [_whole_field(ds, *size)]),
            *_finding_site(finding),
            *_algorithm(device),
            *_measurements(finding, device),
            *([_source(ds)] if size is None else []),
            *_evaluations(finding),
            *(text(CONTAINS, codes.COMMENT, each) for each in _comments(finding)),
        ],
        template=_OF_AN_IMAGE if size is None else _OF_A_REGION,
    )


def _tracking(
    number: int, ds: Dataset, finding: InstanceFinding, device: AlgorithmDevice
) -> Iterator[bytes]:
    uid = derived_uid("tracking", finding.sop_instance_uid, device.digest)
    yield text(HAS_OBS_CONTEXT, codes.TRACKING, f"Image {number}{place_in_viewer(ds)}")
    yield uid_reference(HAS_OBS_CONTEXT, codes.TRACKING_UID, uid)


def _finding(finding: InstanceFinding) -> Iterator[bytes]:
    if finding.assessed:
        yield code(CONTAINS, codes.FINDING, codes.PNEUMONIA)


def _finding_site(finding: InstanceFinding) -> Iterator[bytes]:
    if finding.assessed:
        yield code(HAS_CONCEPT_MOD, codes.FINDING_SITE, codes.LUNG)


def _evaluations(finding: InstanceFinding) -> Iterator[bytes]:
    """Say the answer, or with a code why there is none, where DICOM has one (CID 6135)."""
    if finding.assessed:
        yield code(CONTAINS, codes.PRESENCE, codes.ANSWERS[answer_of(finding)])
        return
    _, reason = codes.NOT_ASSESSED_REASONS.get(reason_of(finding), ("", None))
    if reason is not None:
        yield code(CONTAINS, codes.QUALITY_FINDING, reason)


def _comments(finding: InstanceFinding) -> list[str]:
    if not finding.assessed:
        reason = reason_of(finding)
        return [f"Not assessed ({reason}): {reason_sentence(reason)}."]
    flags = [codes.FLAG_SENTENCES.get(flag, flag) for flag in finding.flags]
    return [*flags, KINDS] if _has_kinds(finding) else flags


def _has_kinds(finding: InstanceFinding) -> bool:
    """Tell whether the kind of pneumonia is worth saying: not of one that is absent."""
    return finding.finding != "ABSENT" and None not in (finding.bacterial, finding.viral)


def _measurements(finding: InstanceFinding, device: AlgorithmDevice) -> list[bytes]:
    """Return the score, and of a pneumonia its kinds, in percent (TID 300)."""
    if not finding.assessed:
        return []
    name = codes.PROBABILITY if device.calibrated else codes.CERTAINTY
    scores = [(name, finding.pneumonia)]
    if _has_kinds(finding):
        scores += [
            (codes.BACTERIAL_PNEUMONIA, finding.bacterial),
            (codes.VIRAL_PNEUMONIA, finding.viral),
        ]
    return [percentage(name, percent(score, 2)) for name, score in scores if score is not None]


def _size(ds: Dataset) -> tuple[int, int] | None:
    """Return rows and columns; None when the dataset does not say how large the image is."""
    try:
        rows, columns = int(value_of(ds, "Rows")), int(value_of(ds, "Columns"))
    except ValueError:
        return None
    within = 0 < rows <= _MOST_PIXELS and 0 < columns <= _MOST_PIXELS
    return (rows, columns) if within else None


def _whole_field(ds: Dataset, rows: int, columns: int) -> bytes:
    """Return the image's outline, as it is the whole field that is spoken of (C.18.6.1.1)."""
    points = [(0, 0), (columns, 0), (columns, rows), (0, rows), (0, 0)]
    return outline(codes.IMAGE_REGION, points, image(SELECTED_FROM, codes.SOURCE, *_named(ds)))


def _source(ds: Dataset) -> bytes:
    return image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, *_named(ds))
