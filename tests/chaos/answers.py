"""What a report tells of its images, read from its content (TID 1500), and what an alarm is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node import codes


@dataclass(frozen=True)
class Answers:
    """The instances of a report in which the finding is present, and those without an answer."""

    positive: frozenset[str]
    unassessed: frozenset[str]


def answers_of(report: Dataset) -> Answers:
    told = {_image(group): _answer(group) for group in _named(report, codes.GROUP.value)}
    present = codes.ANSWERS["PRESENT"].value
    return Answers(
        frozenset(uid for uid, answer in told.items() if answer == present),
        frozenset(uid for uid, answer in told.items() if answer is None),
    )


def alarms(reports: Iterable[Answers]) -> Iterator[frozenset[str]]:
    """Give after each revision the instances for which an alarm stands.

    One that is not assessed any more is not known to be harmless.
    """
    standing: frozenset[str] = frozenset()
    for each in reports:
        standing = each.positive | (each.unassessed & standing)
        yield standing


def _named(item: Dataset, code: str) -> Iterator[Dataset]:
    """Give all content items of a name, at any depth."""
    for each in item.get("ContentSequence") or []:
        names = each.get("ConceptNameCodeSequence") or []
        if names and names[0].CodeValue == code:
            yield each
        yield from _named(each, code)


def _image(group: Dataset) -> str:
    (uid,) = {str(each.ReferencedSOPInstanceUID) for each in _references(group)}
    return uid


def _references(item: Dataset) -> Iterator[Dataset]:
    for each in item.get("ContentSequence") or []:
        yield from each.get("ReferencedSOPSequence") or []
        yield from _references(each)


def _answer(group: Dataset) -> str | None:
    for each in _named(group, codes.PRESENCE.value):
        return str(each.ConceptCodeSequence[0].CodeValue)
    return None
