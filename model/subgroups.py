"""For whom does the model answer how well: groups by kind, by image, and by what a header says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.fitness import HeaderFacts, age_years
from model.images import is_dicom, read_header
from model.metrics import Floats, auc, confusion, rate_intervals, rates


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image besides its pixels.

    Parameters
    ----------
    rows, columns
        Its size.
    header
        What a DICOM header says; None for other files.
    sex
        DICOM `M`, `F` or `O`; empty when not stated.
    """

    rows: int
    columns: int
    header: HeaderFacts | None = None
    sex: str = ""


def read_facts(path: Path) -> ImageFacts:
    """Read the facts of an image file whose pixels could be read."""
    if is_dicom(path):
        ds = read_header(path)
        sex = str(ds.get("PatientSex", "") or "")
        return ImageFacts(int(ds.Rows), int(ds.Columns), HeaderFacts.from_dataset(ds), sex)
    with Image.open(path) as opened:
        return ImageFacts(opened.height, opened.width)


# Upper ends of the groups, and what they are called; the last has no end.
_ASPECTS = ((0.95, "taller than wide"), (1.05, "square"), (1.35, "wider"), (np.inf, "much wider"))
_SIDES = ((512, "up to 512"), (1500, "513 to 1500"), (np.inf, "over 1500"))
_AGES = ((1, "under 1"), (2, "1"), (4, "2 to 3"), (6, "4 to 5"), (np.inf, "6 and over"))
ORDER = {name: i for rows in (_ASPECTS, _SIDES, _AGES) for i, (_, name) in enumerate(rows)}


def _aspect(facts: ImageFacts) -> str:
    return next(name for end, name in _ASPECTS if facts.columns / facts.rows <= end)


def _side(facts: ImageFacts) -> str:
    return next(name for end, name in _SIDES if max(facts.rows, facts.columns) <= end)


def _age(facts: ImageFacts) -> str:
    age = age_years(facts.header) if facts.header else None
    return "" if age is None else next(name for end, name in _AGES if age < end)


def _said(name: str) -> Callable[[ImageFacts], str]:
    return lambda facts: getattr(facts.header, name) if facts.header else ""


# Family -> the group of an image, empty where it is not known.
FAMILIES: dict[str, Callable[[ImageFacts], str]] = {
    "shape": _aspect,
    "longer side, pixels": _side,
    "age, years": _age,
    "sex": lambda facts: facts.sex,
    "view": _said("view_position"),
    "modality": _said("modality"),
}


def compare(
    labels: Sequence[str],
    truth: NDArray[np.bool_],
    probability: Floats,
    facts: Sequence[ImageFacts],
    threshold: float,
    further: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the figures of every group; families with one group only are left out.

    Parameters
    ----------
    labels
        Of each image; a kind of pneumonia is compared with all normals.
    truth
        Shape (N,), whether there is a pneumonia.
    probability
        Shape (N,), NaN where the image was not assessed.
    facts
        Of each image.
    threshold
        From which probability on a pneumonia is called.
    further
        Other families: the group of each image, empty where it is not known.
    """
    named = np.asarray(labels)
    kinds = {
        f"{kind} against normal": (named == kind) | ~truth for kind in sorted(set(named[truth]))
    }
    families: dict[str, Mapping[str, NDArray[np.bool_]]] = {"kind": kinds}
    grouped = {family: [group_of(f) for f in facts] for family, group_of in FAMILIES.items()}
    for family, names in {**grouped, **further}.items():
        groups = np.array(names)
        present = sorted(set(groups) - {""}, key=lambda g: (ORDER.get(g, 0), g))
        families[family] = {str(g): groups == g for g in present}
    return [
        {"family": family, "group": group, **_row(truth[inside], probability[inside], threshold)}
        for family, members in families.items()
        if len(members) > 1
        for group, inside in members.items()
    ]


def _row(truth: NDArray[np.bool_], probability: Floats, threshold: float) -> dict[str, Any]:
    assessed = ~np.isnan(probability)
    truth, probability = truth[assessed], probability[assessed]
    counts = confusion(truth, probability >= threshold)
    return {
        "images": int(assessed.sum()),
        "not_assessed": int((~assessed).sum()),
        "pneumonia": int(truth.sum()),
        "auc": auc(truth, probability),
        **rates(counts),
        **rate_intervals(counts),
    }
