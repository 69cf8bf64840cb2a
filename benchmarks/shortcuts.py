"""How far one gets without looking at the lungs: AUC of grey-level statistics alone.

python benchmarks/shortcuts.py --data DIR

A linear classifier sees, of each image, mean, deviation, percentiles, sharpness and the brightness
of its four borders, and is measured on the same held-out patients as a training. What it gets
right says how the image was taken, not what it shows; a network learns that too unless kept from
it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data import BACTERIAL, NORMAL, VIRAL, Example
from model.gate import fit_head
from model.images import read_image
from model.metrics import auc
from model.preprocess import Preprocessing, prepare
from model.splits import find_splits

AS_STORED = Preprocessing(size=224, low=0, high=100)
QUESTIONS = {
    "pneumonia or normal": ((NORMAL,), (BACTERIAL, VIRAL)),
    "bacterial or viral": ((VIRAL,), (BACTERIAL,)),
}


def statistics(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Describe an image (rows, columns) without its anatomy, shape (16,)."""
    percentiles = np.quantile(image, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    borders = [image[:10], image[-10:], image[:, :10], image[:, -10:]]
    ends = [(image < 0.05).mean(), (image > 0.95).mean()]
    sharpness = np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()
    means = [part.mean() for part in borders]
    return np.array([image.mean(), image.std(), sharpness, *ends, *percentiles, *means])


def described(examples: Sequence[Example]) -> NDArray[np.float64]:
    """Return the statistics and their squares, shape (N, 32)."""
    found = np.stack([statistics(prepare(read_image(e.path), AS_STORED)) for e in examples])
    return np.hstack([found, found**2])


def main() -> None:
    """Print one line for each question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder as model/train.py takes it"
    )
    train, held = find_splits(parser.parse_args().data, fraction=0.15, seed=1)
    known, unknown = described(train), described(held)
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-9
    known, unknown = (known - mean) / deviation, (unknown - mean) / deviation
    labels, truth = np.array([e.label for e in train]), np.array([e.label for e in held])
    for question, (no, yes) in QUESTIONS.items():
        weights, bias = fit_head(known[np.isin(labels, no)], known[np.isin(labels, yes)], 1.0)
        asked = np.isin(truth, no + yes)
        scores = unknown[asked] @ weights + bias
        print(f"{question}: AUC {auc(np.isin(truth[asked], yes), scores):.3f}")


if __name__ == "__main__":
    main()
