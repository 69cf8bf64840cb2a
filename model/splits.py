"""Which images are trained on and which are held out; no patient is on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.data import (
    TEST,
    TRAIN,
    VALIDATION,
    DataError,
    Example,
    Say,
    find_examples,
    part,
    refusing,
)
from model.images import image_files

MINIMUM_VALIDATION = 50  # images; the public set's val/ has 16, which measures nothing


def find_splits(
    folder: Path, fraction: float, seed: int, say: Say = print
) -> tuple[list[Example], list[Example]]:
    """Return training and validation examples.

    Reads `folder/train` and `folder/val` where they exist, else `folder` itself; a missing or
    unusable `val/` is replaced by a split of the training images by patient.

    Raises
    ------
    DataError
        If there is nothing to train on, one class only, or too few patients to split.
    """
    nested = part(folder, TRAIN)
    train = find_examples(nested or folder, say)
    if not _has_both(train):
        raise DataError(f"{folder} has one class only: both normal and pneumonia are needed")
    why = "no val/"
    own = part(folder, VALIDATION) if nested else None
    if own:
        validation, why = _own_validation(own, say)
        if not why:
            return train, validation
    say(f"{why}: validation is split from {(nested or folder).name}/ by patient")
    split = split_by_patient(train, fraction, seed)
    if not all(_has_both(part) for part in split):
        raise DataError(f"{folder} has too few patients to hold some out of both classes")
    return split


def held_back(folder: Path) -> list[Path]:
    """List the images of `folder/test`: only to make sure that none of them is trained on."""
    test = part(folder, TEST)
    with refusing(folder):
        return image_files(test) if test else []


def _has_both(examples: Iterable[Example]) -> bool:
    return {e.pneumonia for e in examples} == {True, False}


def _own_validation(folder: Path, say: Say) -> tuple[list[Example], str]:
    """Return the images of a `val/`, and why they cannot be used; empty when they can."""
    try:
        validation = find_examples(folder, say)
    except DataError as error:
        return [], str(error)
    if len(validation) < MINIMUM_VALIDATION:
        few = f"val/ has {len(validation)} images, too few ({MINIMUM_VALIDATION} at least)"
        return validation, few
    return validation, "" if _has_both(validation) else "val/ has images of one class only"


def split_by_patient(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split so that no patient is on both sides, stratified by the label of the patient's images.

    Parameters
    ----------
    examples
        What to split.
    fraction
        Share of the patients of each stratum that goes to the second part, in (0, 1).
    seed
        Same seed, same split.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        labels[example.patient].add(example.label)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient in sorted(labels):
        strata[tuple(sorted(labels[patient]))].append(patient)
    generator = np.random.default_rng(seed)
    held: set[str] = set()
    for stratum in sorted(strata):
        patients = strata[stratum]
        count = max(1, round(fraction * len(patients))) if len(patients) > 1 else 0
        held.update(generator.permutation(np.array(patients))[:count].tolist())
    first = [e for e in examples if e.patient not in held]
    return first, [e for e in examples if e.patient in held]
