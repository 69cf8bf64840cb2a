"""The content tree of a report, TID 1500.

References
----------
DICOM PS3.16 TID 1500, TID 1410, TID 1501, TID 4019
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import value_of
from dicom_node.sentence import (
    answer_of,
    numbered_findings,
    percent,
    plain,
    reason_sentence,
    summary,
)
from dicom_node.uids import derived_uid

KINDS = (
    "Bacterial and viral: how likely each is if there is a pneumonia; much less certain than the"
    " pneumonia itself."
)


def content_tree(
    evidence: Sequence[Dataset], findings: Sequence[InstanceFinding], device: AlgorithmDevice
) -> Dataset:
    """Return the root content item.

    Parameters
    ----------
    evidence : sequence of Dataset
        The study's instances; a finding's image number is its place here, from 1.
    findings : sequence of InstanceFinding
        Each about one of `evidence`.
    device : AlgorithmDevice
        What made the findings.
    """
    numbered = numbered_findings(evidence, findings)
    groups = [
        _measurement_group(number, ds, finding, device) for number, ds, finding in numbered
    ] or [_empty_group(device)]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device_observer(device)),
        procedure_reported=codes.CHEST_RADIOGRAPHY,
        imaging_measurements=groups,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            codes.ENGLISH
        ),
    )
    root: Dataset = report[0]
    items = list(root.ContentSequence)
    # TID 1500 is extensible, its order significant: before Imaging Measurements, its last row.
    items.insert(len(items) - 1, _text(codes.SUMMARY, summary(evidence, findings, device)))
    root.ContentSequence = items
    return root


def device_observer(device: AlgorithmDevice) -> Any:
    """Return the device as observer (TID 1002, TID 1004)."""
    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=device.device_uid or derived_uid("device", device.manufacturer, device.digest),
        name=plain(device.station_name or device.manufacturer),
        manufacturer_name=plain(device.manufacturer),
        model_name=plain(device.name),
        serial_number=device.digest[:16],
    )
    return sr.ObserverContext(
        observer_type=codes.DEVICE, observer_identifying_attributes=attributes
    )


def _algorithm(device: AlgorithmDevice) -> Any:
    """Return the algorithm identification (TID 4019)."""
    low, high = device.undetermined
    return sr.AlgorithmIdentification(
        name=plain(device.name),
        version=plain(device.version),
        parameters=[
            f"threshold: {device.threshold:.6g}",
            f"undetermined: {low:.6g} to {high:.6g}",
            f"temperature: {device.temperature:.6g}",
            f"weights: sha256 {device.digest}",
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _measurement_group(
    number: int, ds: Dataset, finding: InstanceFinding, device: AlgorithmDevice
) -> Any:
    """Return what is said about one image."""
    common = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=derived_uid("tracking", finding.sop_instance_uid, device.digest),
            identifier=f"Image {number}",
        ),
        "algorithm_id": _algorithm(device),
    }
    if not finding.assessed:
        return _unassessed_group(common, ds, finding)
    group = _assessed_group(common, ds, finding, device)
    comments = [codes.FLAG_SENTENCES.get(flag, flag) for flag in finding.flags]
    if _has_kinds(finding):
        comments.append(KINDS)
    _append_comments(group, comments)
    return group


def _assessed_group(
    common: dict[str, Any], ds: Dataset, finding: InstanceFinding, device: AlgorithmDevice
) -> Any:
    common |= {
        "finding_type": codes.PNEUMONIA,
        "finding_sites": [sr.FindingSite(anatomic_location=codes.LUNG)],
        "measurements": _measurements(finding, device),
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(name=codes.PRESENCE, value=codes.ANSWERS[answer_of(finding)])
        ],
    }
    region = _whole_field(ds)
    if region is None:
        return sr.MeasurementsAndQualitativeEvaluations(**common, source_images=_sources(ds))
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(**common, referenced_region=region)


def _unassessed_group(common: dict[str, Any], ds: Dataset, finding: InstanceFinding) -> Any:
    """Say that there is no answer, and why; with a code where DICOM has one (CID 6135)."""
    reason = finding.reason or "MODEL_FAILURE"
    _, code = codes.NOT_ASSESSED_REASONS.get(reason, (reason, None))
    if code is not None:
        common["qualitative_evaluations"] = [
            sr.QualitativeEvaluation(name=codes.QUALITY_FINDING, value=code)
        ]
    group = sr.MeasurementsAndQualitativeEvaluations(**common, source_images=_sources(ds))
    _append_comments(group, [f"Not assessed ({reason}): {reason_sentence(reason)}."])
    return group


def _empty_group(device: AlgorithmDevice) -> Any:
    """Return the group of a study of which there is nothing to say: TID 1500 wants one."""
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derived_uid("tracking", device.digest), identifier="Study"
        ),
        algorithm_id=_algorithm(device),
    )
    _append_comments(group, ["Not assessed: no image could be assessed."])
    return group


def _has_kinds(finding: InstanceFinding) -> bool:
    """Tell whether the kind of pneumonia is worth saying: not of one that is absent."""
    return finding.finding != "ABSENT" and None not in (finding.bacterial, finding.viral)


def _measurements(finding: InstanceFinding, device: AlgorithmDevice) -> list[Any]:
    """Return the score, and of a pneumonia its kinds, in percent (TID 300)."""
    name = codes.PROBABILITY if device.calibrated else codes.CERTAINTY
    scores = [(name, finding.pneumonia)]
    if _has_kinds(finding):
        scores += [
            (codes.BACTERIAL_PNEUMONIA, finding.bacterial),
            (codes.VIRAL_PNEUMONIA, finding.viral),
        ]
    return [
        sr.Measurement(name=name, value=percent(score, 2), unit=codes.PERCENT)
        for name, score in scores
        if score is not None
    ]


def _whole_field(ds: Dataset) -> Any:
    """Return the image's outline: the whole field was analysed (PS3.3 C.18.6.1.2).

    None when the dataset does not say how large the image is.
    """
    try:
        rows, columns = int(value_of(ds, "Rows")), int(value_of(ds, "Columns"))
    except ValueError:
        return None
    outline = [(0, 0), (columns, 0), (columns, rows), (0, rows), (0, 0)]
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array(outline, np.float32),
        source_image=sr.SourceImageForRegion(
            referenced_sop_class_uid=value_of(ds, "SOPClassUID"),
            referenced_sop_instance_uid=value_of(ds, "SOPInstanceUID"),
        ),
    )


def _sources(ds: Dataset) -> list[Any]:
    return [
        sr.SourceImageForMeasurementGroup(
            referenced_sop_class_uid=value_of(ds, "SOPClassUID"),
            referenced_sop_instance_uid=value_of(ds, "SOPInstanceUID"),
        )
    ]


def _append_comments(group: Any, sentences: Iterable[str]) -> None:
    group[0].ContentSequence.extend(_text(codes.COMMENT, each) for each in sentences)


def _text(name: Code, value: str) -> Any:
    return sr.TextContentItem(
        name=name, value=plain(value), relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
