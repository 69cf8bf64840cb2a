"""What the pixel gate is fitted to and measured on: children, adults, and made-up misfits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import data, negatives
from model.fitness import NOT_CHEST, OUTSIDE_POPULATION
from model.gate import Misfits, PixelGate, fit_gate
from model.images import image_files
from model.preprocess import Preprocessing

Images = NDArray[np.float16]
Features = NDArray[np.float32]
Extract = Callable[[NDArray[Any]], Features]

MOST_CHILDREN, MOST_ADULTS = 1200, 1200  # images
EACH_KIND = 300  # images of each made-up kind, to fit
MEASURED = 100  # and to measure
MILD = 0.5  # strength of the changes that children's images must survive


def fit_pixel_gate(
    extract: Extract,
    disturb: Callable[[NDArray[Any], float], NDArray[Any]],
    train: data.Loaded,
    validation: data.Loaded,
    adults: Images | None,
    other_adults: Images | None,
    seed: int,
) -> tuple[PixelGate, dict[str, Any]]:
    """Fit the gate, and measure it on patients and kinds of image that had no part in it.

    Parameters
    ----------
    extract
        Prepared images (N, size, size) -> features (N, F).
    disturb
        Changes exposure, sharpness and framing at random, with a strength: children and adults come
        from different sources, and without it the gate would learn to tell JPEG encoders apart.
    train, validation
        Images of children; half of the validation patients set the thresholds, the other half
        is measured.
    adults
        Chest images outside the intended population, shape (N, size, size), or None.
    other_adults
        The like from a second collection, to measure only.
    seed
        Of every draw.
    """
    generator = np.random.default_rng(seed)
    children = _some(train.images, MOST_CHILDREN, generator)
    setting, measuring = _halves(validation, seed)

    def both(images: Images) -> Features:
        return np.concatenate([extract(images), extract(disturb(images, 1.0))])

    misfits = _made_up(extract, children, setting, seed)
    if adults is not None:
        adults = _some(adults, MOST_ADULTS, generator)
        cut = int(0.85 * len(adults))
        misfits = [
            Misfits(OUTSIDE_POPULATION, both(adults[:cut]), extract(adults[cut:])),
            *misfits,
        ]
    mildly = extract(disturb(setting, MILD))
    gate = fit_gate(both(children), extract(setting), misfits, disturbed=mildly)
    figures = _measure(gate, extract, disturb, measuring, misfits, seed)
    if other_adults is not None:
        figures["stopped"]["adults of a second collection"] = _stopped(gate, extract(other_adults))
        figures["never_fitted"].append("adults of a second collection")
    return gate, figures


def load_adults(folders: Sequence[Path], spec: Preprocessing, seed: int) -> Images | None:
    """Load up to `MOST_ADULTS` images from all folders together, or None when there are none."""
    paths = [path for folder in folders for path in image_files(folder)]
    if not paths:
        return None
    order = np.random.default_rng(seed).permutation(len(paths))[:MOST_ADULTS]
    examples = [data.Example(paths[i], data.NORMAL, paths[i].stem) for i in order]
    return data.load(examples, spec).images


def _some(images: Images, most: int, generator: np.random.Generator) -> Images:
    return images[generator.permutation(len(images))[:most]]


def _halves(validation: data.Loaded, seed: int) -> tuple[Images, Images]:
    """Halve the validation images by patient; too few to halve, and both halves are all."""
    patients = sorted({e.patient for e in validation.examples})
    first = set(np.random.default_rng(seed).permutation(np.array(patients))[::2].tolist())
    inside = np.array([e.patient in first for e in validation.examples])
    if inside.all() or not inside.any():
        return validation.images, validation.images
    return validation.images[inside], validation.images[~inside]


def _made_up(extract: Extract, fitting: Images, placing: Images, seed: int) -> list[Misfits]:
    """Return the kinds of made-up misfits, to fit their heads and to place the thresholds."""
    placed = max(5, EACH_KIND // 5)
    return [
        Misfits(
            reason,
            extract(negatives.make(maker, fitting, EACH_KIND, seed)),
            extract(negatives.make(maker, placing, placed, seed + 1)),
        )
        for reason, makers in negatives.MAKERS.items()
        for maker in makers.values()
    ]


def _measure(
    gate: PixelGate,
    extract: Extract,
    disturb: Callable[[NDArray[Any], float], NDArray[Any]],
    children: Images,
    misfits: Sequence[Misfits],
    seed: int,
) -> dict[str, Any]:
    """Return the share of children that pass, and of each kind of misfit that is stopped."""
    stopped = {}
    for adults in (m for m in misfits if m.reason == OUTSIDE_POPULATION):
        stopped["adults (they also placed the threshold)"] = _stopped(gate, adults.placing)
    known = {name: m for makers in negatives.MAKERS.values() for name, m in makers.items()}
    for name, maker in {**known, **negatives.HELD_OUT}.items():
        stopped[name] = _stopped(gate, extract(negatives.make(maker, children, MEASURED, seed + 7)))
    return {
        "children_images": len(children),
        "children_passed": 1 - _stopped(gate, extract(children)),
        "disturbed_children_passed": 1 - _stopped(gate, extract(disturb(children, MILD))),
        "stopped": stopped,
        "never_fitted": sorted(negatives.HELD_OUT),
        "reasons": sorted({NOT_CHEST, *(m.reason for m in misfits)}),
    }


def _stopped(gate: PixelGate, features: Features) -> float:
    return float(np.mean([reason is not None for reason in gate.judge(features)]))
