"""May the model judge this image? What the header says, before any pixel is looked at.

Headers lie or are empty, so the pixels are asked as well: `model.gate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from model.header_terms import (
    DX_FOR_PROCESSING,
    NOT_FRONTAL_CODES,
    NOT_FRONTAL_VIEWS,
    OTHER_BODY_PARTS,
    OTHER_REGION_CODES,
    RADIOGRAPH_MODALITIES,
    SIDES,
)

Population = Literal["withhold", "flag", "ignore"]

NOT_CHEST, NOT_FRONTAL, FOR_PROCESSING = "NOT_CHEST", "NOT_FRONTAL", "FOR_PROCESSING"
OUTSIDE_POPULATION, AGE_UNKNOWN = "OUTSIDE_POPULATION", "AGE_UNKNOWN"

# The intended population: from the first birthday to the day before the sixth.
YOUNGEST_YEARS, OLDEST_YEARS = 1.0, 6.0

# No patient is older; anonymised birth dates such as 19000101 are no ages.
_OLDEST_OF_ALL_YEARS = 120

# DICOM PS3.5 6.2, VR AS, in years; of days, 365 are the first birthday in most years.
_YEARS = {"D": 1 / 365, "W": 7 / 365, "M": 1 / 12, "Y": 1.0}

_STUDY_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What an instance says about itself; every value a plain string, empty when absent.

    Parameters
    ----------
    modality, sop_class_uid, view_position, body_part_examined
        As in the instance.
    patient_age
        DICOM age string, such as `003Y`.
    patient_birth_date, study_date
        YYYYMMDD; give the age where there is no age string.
    presentation_intent_type
        `FOR PRESENTATION` or `FOR PROCESSING`.
    view_code, region_code
        Code values of View Code Sequence and Anatomic Region Sequence.
    row_orientation
        Where the rows of the image point to in the patient: the first value of Patient
        Orientation, such as `L`.
    """

    modality: str = ""
    sop_class_uid: str = ""
    view_position: str = ""
    body_part_examined: str = ""
    patient_age: str = ""
    patient_birth_date: str = ""
    study_date: str = ""
    presentation_intent_type: str = ""
    view_code: str = ""
    region_code: str = ""
    row_orientation: str = ""

    @classmethod
    def from_dataset(cls, ds: Mapping[Any, Any] | Any) -> HeaderFacts:
        """Read the facts from a pydicom data set; a value that cannot be read counts as absent."""
        return cls(
            modality=_text(ds, "Modality"),
            sop_class_uid=_text(ds, "SOPClassUID"),
            view_position=_text(ds, "ViewPosition"),
            body_part_examined=_text(ds, "BodyPartExamined"),
            patient_age=_text(ds, "PatientAge"),
            patient_birth_date=_text(ds, "PatientBirthDate"),
            study_date=next(filter(_date, (_text(ds, k) for k in _STUDY_DATES)), ""),
            presentation_intent_type=_text(ds, "PresentationIntentType"),
            view_code=_code(ds, "ViewCodeSequence"),
            region_code=_code(ds, "AnatomicRegionSequence"),
            row_orientation=_text(ds, "PatientOrientation", 0),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the header decides.

    Parameters
    ----------
    reason
        Why the instance may not be assessed (a key of `NOT_ASSESSED_REASONS`), or None.
    flags
        What the reader of an answer must know.
    """

    reason: str | None = None
    flags: tuple[str, ...] = ()


def check_header(facts: HeaderFacts, population: Population = "withhold") -> Verdict:
    """Decide from the header whether an instance may be assessed.

    Parameters
    ----------
    facts
        See `HeaderFacts`.
    population
        What a known age outside the intended one leads to: no answer, a flag, or nothing.
    """
    reason = _unfit(facts)
    if reason:
        return Verdict(reason)
    age = age_years(facts)
    if age is None:
        return Verdict(flags=(AGE_UNKNOWN,))
    if YOUNGEST_YEARS <= age < OLDEST_YEARS or population == "ignore":
        return Verdict()
    if population == "withhold":
        return Verdict(OUTSIDE_POPULATION)
    return Verdict(flags=(OUTSIDE_POPULATION,))


def _unfit(facts: HeaderFacts) -> str | None:
    if "PROCESSING" in facts.presentation_intent_type or facts.sop_class_uid == DX_FOR_PROCESSING:
        return FOR_PROCESSING
    if facts.modality not in RADIOGRAPH_MODALITIES or _is_other_part(facts):
        return NOT_CHEST
    return NOT_FRONTAL if _is_not_frontal(facts) else None


def _is_other_part(facts: HeaderFacts) -> bool:
    part = "".join(w for w in _words(facts.body_part_examined) if w not in SIDES)
    named = part in OTHER_BODY_PARTS or part.removesuffix("S") in OTHER_BODY_PARTS
    return named or facts.region_code in OTHER_REGION_CODES


def _is_not_frontal(facts: HeaderFacts) -> bool:
    """Tell from the view; where no view is stated, rows that run from front to back are lateral."""
    if facts.view_position or facts.view_code:
        view = _words(facts.view_position)
        return bool(NOT_FRONTAL_VIEWS & {*view, "".join(view)}) or (
            facts.view_code in NOT_FRONTAL_CODES
        )
    return facts.row_orientation[:1] in ("A", "P")


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Z0-9]+", text)


def age_years(facts: HeaderFacts) -> float | None:
    """Return the age at the study in years, or None when the header does not say it.

    Nor does it say it when the age that is stated is one that the model may judge and the dates
    make it one that it may not: somebody else may be meant.

    References
    ----------
    DICOM PS3.5 6.2 (VR AS: three digits and one of D, W, M, Y)
    """
    stated, dated = _possible(_stated_age(facts.patient_age)), _possible(_age_from_dates(facts))
    if stated is None:
        return dated
    return None if dated is not None and _contradicts(dated, stated) else stated


def _possible(age: float | None) -> float | None:
    return age if age is not None and age <= _OLDEST_OF_ALL_YEARS else None


def _contradicts(dated: float, stated: float) -> bool:
    """Tell whether dates speak against an age of the population, by more than a birthday."""
    within = YOUNGEST_YEARS <= stated < OLDEST_YEARS
    return within and not YOUNGEST_YEARS <= dated < OLDEST_YEARS and abs(dated - stated) > 1


def _stated_age(text: str) -> float | None:
    count, unit = text[:-1], text[-1:]
    readable = unit in _YEARS and count.isascii() and count.isdigit()
    return int(count) * _YEARS[unit] if readable else None


def _age_from_dates(facts: HeaderFacts) -> float | None:
    born, studied = _date(facts.patient_birth_date), _date(facts.study_date)
    if born is None or studied is None or studied < born:
        return None
    before_birthday = (studied.month, studied.day) < (born.month, born.day)
    return float(studied.year - born.year - before_birthday)


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return None


def _text(ds: Any, keyword: str, index: int | None = None) -> str:
    """Return a value, or one of several, as text."""
    try:
        value = ds.get(keyword, "")
        if index is not None and value and not isinstance(value, str):
            value = value[index]
    except Exception:  # noqa: BLE001 - pydicom converts late and raises many kinds on bad values
        return ""
    return "" if value is None else str(value).strip().upper()


def _code(ds: Any, keyword: str) -> str:
    """Return the code value of the first item of a code sequence."""
    try:
        items = ds.get(keyword) or []
        return _text(items[0], "CodeValue") if items else ""
    except Exception:  # noqa: BLE001 - as above
        return ""
