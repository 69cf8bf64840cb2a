"""The report as highdicom builds it: what ours is held against, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import codes
from dicom_node.authored import equipment, finished, series_number, stand_in
from dicom_node.content import KINDS
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import value_of
from dicom_node.sentence import (
    answer_of,
    in_order,
    numbered_findings,
    percent,
    place_in_viewer,
    plain,
    reason_of,
    reason_sentence,
    summary,
)
from dicom_node.uids import derived_uid

# The rows of TID 1410 and TID 1501, in their order: by concept name, and else by value type.
_ROWS_BY_NAME: Final = (
    "112039",  # Tracking Identifier
    "112040",  # Tracking Unique Identifier
    "121071",  # Finding
    "111030",  # Image Region
    "363698007",  # Finding Site
    "111001",  # Algorithm Name, TID 4019
    "111003",  # Algorithm Version
    "111002",  # Algorithm Parameters
    "111000",  # Algorithm Family
)
_ROWS_BY_TYPE: Final = ("NUM", "IMAGE", "CODE", "TEXT")
_MOST_PIXELS: Final = 0xFFFF  # Rows and Columns have VR US


def build_report(
    evidence: Sequence[Dataset],
    findings: Sequence[InstanceFinding],
    device: AlgorithmDevice,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    revision: int,
    content_datetime: datetime,
    predecessor: Dataset | None = None,
) -> bytes:
    """Build what `dicom_node.report.build_report` does."""
    ordered = in_order(evidence)
    told = equipment(device)
    report = sr.Comprehensive3DSR(
        evidence=[stand_in(ds) for ds in ordered],
        content=_content(ordered, findings, device),
        series_instance_uid=series_instance_uid,
        series_number=series_number("SR", device),
        sop_instance_uid=sop_instance_uid,
        instance_number=max(1, revision),
        manufacturer=told["Manufacturer"],
        manufacturer_model_name=told["ManufacturerModelName"],
        device_serial_number=told["DeviceSerialNumber"],
        software_versions=told["SoftwareVersions"],
        series_description="Pneumonia on chest radiograph, AI",
        is_complete=True,
        previous_versions=None if predecessor is None else [predecessor],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return finished(report, ordered[0], content_datetime)


def _content(
    evidence: Sequence[Dataset], findings: Sequence[InstanceFinding], device: AlgorithmDevice
) -> Dataset:
    """Return the root content item."""
    numbered = numbered_findings(evidence, findings)
    groups = [_measurement_group(number, ds, finding, device) for number, ds, finding in numbered]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(device)),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=groups,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            codes.ENGLISH
        ),
    )
    root: Dataset = report[0]
    *context, measurements = root.ContentSequence
    # TID 1500 is extensible and its order significant: what is ours goes before its last row.
    told = _text(codes.SUMMARY, summary(evidence, findings, device))
    root.ContentSequence = [*context, _image_library(evidence), told, measurements]
    return root


def _observer(device: AlgorithmDevice) -> Any:
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


def _image_library(evidence: Sequence[Dataset]) -> Any:
    """Return the list of images (TID 1600): some viewers read no report without."""
    contains = sr.RelationshipTypeValues.CONTAINS
    library = sr.ContainerContentItem(name=codes.IMAGE_LIBRARY, relationship_type=contains)
    group = sr.ContainerContentItem(name=codes.IMAGE_LIBRARY_GROUP, relationship_type=contains)
    group.ContentSequence = [
        sr.ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=value_of(ds, "SOPClassUID"),
            referenced_sop_instance_uid=value_of(ds, "SOPInstanceUID"),
            relationship_type=contains,
        )
        for ds in evidence
    ]
    library.ContentSequence = [group]
    return library


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
    """Return what is said about one image (TID 1410; TID 1501 of an image of unknown size)."""
    said = _assessed(finding, device) if finding.assessed else _unassessed(finding)
    common = said | {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=derived_uid("tracking", finding.sop_instance_uid, device.digest),
            identifier=f"Image {number}{place_in_viewer(ds)}",
        ),
        "algorithm_id": _algorithm(device),
    }
    region = _whole_field(ds)
    group = (
        sr.MeasurementsAndQualitativeEvaluations(**common, source_images=_sources(ds))
        if region is None
        else sr.PlanarROIMeasurementsAndQualitativeEvaluations(**common, referenced_region=region)
    )
    comments = [_text(codes.COMMENT, each) for each in _comments(finding)]
    group[0].ContentSequence = sorted([*group[0].ContentSequence, *comments], key=_row)
    return group


def _row(item: Dataset) -> int:
    """Return the place of an item in its group, as the order of its template is significant."""
    name = item.ConceptNameCodeSequence[0].CodeValue
    if name in _ROWS_BY_NAME:
        return _ROWS_BY_NAME.index(name)
    return len(_ROWS_BY_NAME) + _ROWS_BY_TYPE.index(item.ValueType)


def _assessed(finding: InstanceFinding, device: AlgorithmDevice) -> dict[str, Any]:
    return {
        "finding_type": codes.PNEUMONIA,
        "finding_sites": [sr.FindingSite(anatomic_location=codes.LUNG)],
        "measurements": _measurements(finding, device),
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(name=codes.PRESENCE, value=codes.ANSWERS[answer_of(finding)])
        ],
    }


def _unassessed(finding: InstanceFinding) -> dict[str, Any]:
    """Say with a code why there is no answer, where DICOM has one (CID 6135)."""
    _, code = codes.NOT_ASSESSED_REASONS.get(reason_of(finding), ("", None))
    if code is None:
        return {}
    return {
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(name=codes.QUALITY_FINDING, value=code)
        ]
    }


def _comments(finding: InstanceFinding) -> list[str]:
    if not finding.assessed:
        reason = reason_of(finding)
        return [f"Not assessed ({reason}): {reason_sentence(reason)}."]
    flags = [codes.FLAG_SENTENCES.get(flag, flag) for flag in finding.flags]
    return [*flags, KINDS] if _has_kinds(finding) else flags


def _has_kinds(finding: InstanceFinding) -> bool:
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
    """Return the image's outline, as it is the whole field that is spoken of (PS3.3 C.18.6.1.1).

    None when the dataset does not say how large the image is.
    """
    try:
        rows, columns = int(value_of(ds, "Rows")), int(value_of(ds, "Columns"))
    except ValueError:
        return None
    if not (0 < rows <= _MOST_PIXELS and 0 < columns <= _MOST_PIXELS):
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


def _text(name: Code, value: str) -> Any:
    return sr.TextContentItem(
        name=name, value=plain(value), relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
