"""The sentence at the top of a report, as a radiologist would read it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.findings import AlgorithmDevice, InstanceFinding
from dicom_node.identity import value_of

INTENDED_USE: Final = (
    "Intended for frontal (AP) chest radiographs of children aged 1 to 5 years; "
    "not for primary diagnosis."
)
_NUMBER: Final = re.compile(r"[0-9]{1,12}")  # VR IS, without a sign
# More images than this are counted in the sentence, not listed.
_LISTED = 6

# Image number, instance, finding.
Numbered = list[tuple[int, Dataset, InstanceFinding]]


def in_order(evidence: Sequence[Dataset]) -> list[Dataset]:
    """Return instances in the order a reader sees them in: by series, then by instance number."""
    return sorted(evidence, key=_place)


def _place(ds: Dataset) -> tuple[int, int, str]:
    return (
        _integer(ds, "SeriesNumber"),
        _integer(ds, "InstanceNumber"),
        value_of(ds, "SOPInstanceUID"),
    )


def place_in_viewer(ds: Dataset) -> str:
    """Say by which numbers a viewer shows an image: " (series 1, image 3)"; "" when it has none."""
    series, image = value_of(ds, "SeriesNumber"), value_of(ds, "InstanceNumber")
    if not (_NUMBER.fullmatch(series) and _NUMBER.fullmatch(image)):
        return ""
    return f" (series {series}, image {image})"


def _integer(ds: Dataset, keyword: str) -> int:
    try:
        return int(value_of(ds, keyword))
    except ValueError:
        return 0


def numbered_findings(evidence: Sequence[Dataset], findings: Sequence[InstanceFinding]) -> Numbered:
    """Pair each instance with its finding, numbered by its place in the evidence, from 1.

    An instance without one was not assessed: a report never passes over an image in silence.
    """
    by_uid = {finding.sop_instance_uid: finding for finding in findings}
    uids = [value_of(ds, "SOPInstanceUID") for ds in evidence]
    return [
        (number, ds, by_uid.get(uid, InstanceFinding(uid, assessed=False)))
        for number, (uid, ds) in enumerate(zip(uids, evidence, strict=True), 1)
    ]


def summary(
    evidence: Sequence[Dataset], findings: Sequence[InstanceFinding], device: AlgorithmDevice
) -> str:
    """Return the result as a radiologist would read it: one sentence, and the intended use."""
    numbered = numbered_findings(evidence, findings)
    parts = [*_answers(numbered, device), *_unassessed(numbered), *_flags(numbered)]
    return f"Automated analysis: {'; '.join(parts)}. {INTENDED_USE}"


def _answers(numbered: Numbered, device: AlgorithmDevice) -> Iterable[str]:
    """Say for each answer in which images it was given: "pneumonia present in image 1 (97.3 %)"."""
    word = "probability" if device.calibrated else "certainty"
    for finding, meaning in codes.ANSWERS.items():
        given = [(n, f) for n, _, f in numbered if f.assessed and answer_of(f) == finding]
        if given:
            images = _listed([f"{n} ({word} {percent(f.pneumonia)} %)" for n, f in given])
            yield f"pneumonia {meaning.meaning.lower()} in {images}"


def answer_of(finding: InstanceFinding) -> str:
    """Return the key of :data:`dicom_node.codes.ANSWERS` for an assessed finding."""
    return finding.finding or "UNDETERMINED"


def _unassessed(numbered: Numbered) -> Iterable[str]:
    """Say for each reason which images were not assessed."""
    reasons = dict.fromkeys(reason_of(f) for _, _, f in numbered if not f.assessed)
    for reason in reasons:
        images = [str(n) for n, _, f in numbered if not f.assessed and reason_of(f) == reason]
        yield f"{_listed(images)} not assessed, because {reason_sentence(reason)}"


def _flags(numbered: Numbered) -> Iterable[str]:
    flags = dict.fromkeys(flag for _, _, f in numbered if f.assessed for flag in f.flags)
    return [f"note that {codes.FLAG_SENTENCES.get(flag, flag)}" for flag in flags]


def _listed(images: Sequence[str]) -> str:
    if len(images) > _LISTED:
        return f"{len(images)} images"
    return f"image{'s' if len(images) > 1 else ''} {', '.join(images)}"


def reason_of(finding: InstanceFinding) -> str:
    """Return the key of :data:`dicom_node.codes.NOT_ASSESSED_REASONS` for what was not assessed."""
    return finding.reason or "MODEL_FAILURE"


def reason_sentence(reason: str) -> str:
    """Say why an instance was not assessed; a reason without words is its own."""
    return codes.NOT_ASSESSED_REASONS.get(reason, (reason, None))[0]


def percent(probability: float | None, digits: int = 1) -> float:
    """Return a probability in percent, rounded as a reader (1) or a program (2) wants it."""
    return round(100 * float(probability or 0.0), digits)


def plain(text: str) -> str:
    """Return `text` in ASCII: our own words are the same in every character set."""
    return text.encode("ascii", "replace").decode("ascii")
