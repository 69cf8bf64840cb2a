"""The content tree of a report (TID 1500), and the sentence at its top.

References
----------
DICOM PS3.16 TID 1500, TID 1410, TID 1501, TID 4019
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.identity import value_of

INTENDED_USE: Final = (
    "Intended for frontal (AP) chest radiographs of children aged 1 to 5 years; "
    "not for primary diagnosis."
)
# More images than this are counted in the sentence, not listed.
_LISTED = 6


@dataclass(frozen=True, slots=True)
class InstanceFinding:
    """What the analysis of one instance came to.

    Attributes
    ----------
    sop_instance_uid : str
        The instance.
    assessed : bool
        Whether there is an answer.
    reason : str or None
        Why not: a key of :data:`dicom_node.codes.NOT_ASSESSED_REASONS`.
    finding : str or None
        ``PRESENT``, ``ABSENT`` or ``UNDETERMINED``.
    pneumonia : float or None
        Probability (or certainty) of pneumonia, in [0, 1].
    bacterial, viral : float or None
        Probabilities of either kind, given pneumonia, in [0, 1].
    flags : tuple of str
        Keys of :data:`dicom_node.codes.FLAG_SENTENCES`.
    """

    sop_instance_uid: str
    assessed: bool
    reason: str | None = None
    finding: str | None = None
    pneumonia: float | None = None
    bacterial: float | None = None
    viral: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlgorithmDevice:
    """The model and the device it ran in.

    Attributes
    ----------
    name, version : str
        Of the model.
    digest : str
        SHA-256 of the model's artifact, in hexadecimal.
    threshold : float
        Pneumonia is present from here on, in [0, 1].
    undetermined : tuple of float
        From and to, in [0, 1]: undetermined between.
    temperature : float
        Of the calibration.
    calibrated : bool
        Whether the score is a probability.
    manufacturer, software_version : str
        Of the device.
    device_uid : str
        Device Observer UID; "" derives one from the model's digest.
    station_name : str
        Device Observer Name; "" is the manufacturer's.
    """

    name: str
    version: str
    digest: str
    threshold: float
    undetermined: tuple[float, float]
    temperature: float
    calibrated: bool
    manufacturer: str = "cxr-worker"
    software_version: str = "0.1.0"
    device_uid: str = ""
    station_name: str = ""


def derived_uid(*parts: str) -> str:
    """Return the UID that belongs to `parts`, and to no others (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(10).join(parts)).int}"


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
    numbered = _numbered(evidence, findings)
    groups = [
        _measurement_group(number, ds, finding, device) for number, ds, finding in numbered
    ] or [_empty_group(device)]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(device)),
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


def summary(
    evidence: Sequence[Dataset], findings: Sequence[InstanceFinding], device: AlgorithmDevice
) -> str:
    """Return the result as a radiologist would read it: one sentence, and the intended use."""
    numbered = _numbered(evidence, findings)
    parts = [
        *_answers(numbered, device),
        *_unassessed(numbered),
        *_flags(numbered),
    ] or ["no image could be assessed"]
    text = "; ".join(parts)
    return f"Automated analysis: {text}. {INTENDED_USE}"


_Numbered = list[tuple[int, Dataset, InstanceFinding]]


def _numbered(evidence: Sequence[Dataset], findings: Sequence[InstanceFinding]) -> _Numbered:
    by_uid = {finding.sop_instance_uid: finding for finding in findings}
    return [
        (number, ds, by_uid[value_of(ds, "SOPInstanceUID")])
        for number, ds in enumerate(evidence, 1)
        if value_of(ds, "SOPInstanceUID") in by_uid
    ]


def _answers(numbered: _Numbered, device: AlgorithmDevice) -> Iterable[str]:
    """Say for each answer in which images it was given: "pneumonia present in image 1 (97.3 %)"."""
    word = "probability" if device.calibrated else "certainty"
    for finding, meaning in codes.ANSWERS.items():
        given = [(n, f) for n, _, f in numbered if f.assessed and _answer(f) == finding]
        if given:
            images = _listed([f"{n} ({word} {percent(f.pneumonia)} %)" for n, f in given])
            yield f"pneumonia {meaning.meaning.lower()} in {images}"


def _answer(finding: InstanceFinding) -> str:
    return finding.finding or "UNDETERMINED"


def _unassessed(numbered: _Numbered) -> Iterable[str]:
    """Say for each reason which images were not assessed."""
    reasons = dict.fromkeys(f.reason or "MODEL_FAILURE" for _, _, f in numbered if not f.assessed)
    for reason in reasons:
        images = [
            str(n)
            for n, _, f in numbered
            if not f.assessed and (f.reason or "MODEL_FAILURE") == reason
        ]
        yield f"{_listed(images)} not assessed, because {reason_sentence(reason)}"


def _flags(numbered: _Numbered) -> Iterable[str]:
    flags = dict.fromkeys(flag for _, _, f in numbered if f.assessed for flag in f.flags)
    return [f"note that {codes.FLAG_SENTENCES.get(flag, flag)}" for flag in flags]


def _listed(images: Sequence[str]) -> str:
    if len(images) > _LISTED:
        return f"{len(images)} images"
    return f"image{'s' if len(images) > 1 else ''} {', '.join(images)}"


def reason_sentence(reason: str) -> str:
    """Say why an instance was not assessed; a reason without words is its own."""
    return codes.NOT_ASSESSED_REASONS.get(reason, (reason, None))[0]


def percent(probability: float | None, digits: int = 1) -> float:
    """Return a probability in percent, rounded as a reader (1) or a program (2) wants it."""
    return round(100 * float(probability or 0.0), digits)


def _observer(device: AlgorithmDevice) -> Any:
    """Return the device observer (TID 1004)."""
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
        comments.append("bacterial and viral: probability of each, given that there is pneumonia")
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
            sr.QualitativeEvaluation(name=codes.PRESENCE, value=codes.ANSWERS[_answer(finding)])
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


def plain(text: str) -> str:
    """Return `text` in ASCII: our own words are the same in every character set."""
    return text.encode("ascii", "replace").decode("ascii")
