"""Several models on the same held-out patients: what each step of a training gained.

python benchmarks/validation.py --data DIR MODEL...

DIR is what they were trained on, with the default seed and share of validation; a model that was
trained with others has seen some of these patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model import data
from model.augment import disturbed
from model.calibration import softmax
from model.data import NORMAL, Loaded
from model.metrics import auc
from model.predict import Classifier
from model.release import kind_figures
from model.splits import find_splits


def figures(classifier: Classifier, held: Loaded) -> list[float]:
    """Return AUC of pneumonia as is and changed at random, and of bacterial against viral."""
    labels = classifier.info.labels
    classes = data.class_index(held.examples, labels)
    normal = labels.index(NORMAL)

    def scores(images: NDArray[np.floating]) -> NDArray[np.float32]:
        return classifier.forward(images)[0]

    tf.random.set_seed(1)  # the same changes for every model
    clean, changed = scores(held.images), scores(disturbed(held.images))
    areas = [auc(classes != normal, 1 - softmax(some)[:, normal]) for some in (clean, changed)]
    return [*areas, kind_figures(clean, classes, labels).get("bacterial_auc", np.nan)]


def main() -> None:
    """Print one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    _, held = find_splits(options.data, fraction=0.15, seed=1)
    print("AUC pneumonia  changed at random  bacterial or viral  model")
    for path in options.models:
        classifier = Classifier.load(path)
        pneumonia, changed, kinds = figures(classifier, data.load(held, classifier.spec))
        print(f"{pneumonia:13.4f} {changed:18.4f} {kinds:19.4f}  {path}", flush=True)


if __name__ == "__main__":
    main()
