"""May the model judge this image? What the header says, before any pixel is looked at.

Headers lie or are empty, so the pixels are asked as well: `model.gate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

Population = Literal["withhold", "flag", "ignore"]

NOT_CHEST, NOT_FRONTAL, FOR_PROCESSING = "NOT_CHEST", "NOT_FRONTAL", "FOR_PROCESSING"
OUTSIDE_POPULATION, AGE_UNKNOWN = "OUTSIDE_POPULATION", "AGE_UNKNOWN"

# The intended population: from the first birthday to the day before the sixth.
YOUNGEST_YEARS, OLDEST_YEARS = 1.0, 6.0

# DICOM PS3.3 C.7.3.1.1.1. OT and SC stand for scanned films; the pixels decide about those.
RADIOGRAPH_MODALITIES = frozenset({"", "CR", "DX", "DR", "RG", "XR", "RF", "OT", "SC"})

# DICOM PS3.3 C.8.1.3 (View Position) and what is written in its place.
NOT_FRONTAL_VIEWS = frozenset(
    {"LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL", "LLAT", "RLAT", "OBLIQUE"}
)

# DICOM PS3.16 Annex L: Body Part Examined of parts that hold no lung.
_OTHER_BODY_PARTS = """
    ABDOMEN ABDOMENPELVIS ANKLE ARM BLADDER BRAIN BREAST BUTTOCK CALCANEUS CAROTID CEREBELLUM
    COCCYX COLON CSPINE ELBOW EXTREMITY EYE FACE FACIALBONES FEMUR FINGER FOOT FOREARM HAND HEAD
    HEADNECK HIP HUMERUS JAW KIDNEY KNEE LEG LIVER LOWERLEG LSPINE MANDIBLE MAXILLA NASALBONE NECK
    ORBIT PATELLA PELVIS PENIS RADIUS RADIUSULNA SCALP SCAPULA SHOULDER SINUS SKULL SPLEEN SSPINE
    THIGH THUMB TIBIA TIBIAFIBULA TMJ TOE ULNA UPPERARM URETER WRIST ZYGOMA
"""
OTHER_BODY_PARTS = frozenset(_OTHER_BODY_PARTS.split())

DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"  # PS3.4 B.5

_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}  # DICOM PS3.5 6.2, VR AS


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
    """

    modality: str = ""
    sop_class_uid: str = ""
    view_position: str = ""
    body_part_examined: str = ""
    patient_age: str = ""
    patient_birth_date: str = ""
    study_date: str = ""
    presentation_intent_type: str = ""

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
            study_date=_text(ds, "StudyDate"),
            presentation_intent_type=_text(ds, "PresentationIntentType"),
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
    if reason or population == "ignore":
        return Verdict(reason)
    age = age_years(facts)
    if age is None:
        return Verdict(flags=(AGE_UNKNOWN,))
    if YOUNGEST_YEARS <= age < OLDEST_YEARS:
        return Verdict()
    if population == "withhold":
        return Verdict(OUTSIDE_POPULATION)
    return Verdict(flags=(OUTSIDE_POPULATION,))


def _unfit(facts: HeaderFacts) -> str | None:
    if "PROCESSING" in facts.presentation_intent_type or facts.sop_class_uid == DX_FOR_PROCESSING:
        return FOR_PROCESSING
    part = facts.body_part_examined.replace(" ", "").replace("_", "")
    if facts.modality not in RADIOGRAPH_MODALITIES or part in OTHER_BODY_PARTS:
        return NOT_CHEST
    return NOT_FRONTAL if facts.view_position in NOT_FRONTAL_VIEWS else None


def age_years(facts: HeaderFacts) -> float | None:
    """Return the age at the study in years, or None when the header does not say it.

    References
    ----------
    DICOM PS3.5 6.2 (VR AS: three digits and one of D, W, M, Y)
    """
    count, unit = facts.patient_age[:-1], facts.patient_age[-1:]
    if unit in _DAYS and count.isascii() and count.isdigit():
        return float(count) if unit == "Y" else int(count) * _DAYS[unit] / _DAYS["Y"]
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


def _text(ds: Any, keyword: str) -> str:
    try:
        value = ds.get(keyword, "")
    except Exception:  # noqa: BLE001 - pydicom converts late and raises many kinds on bad values
        return ""
    return "" if value is None else str(value).strip().upper()
