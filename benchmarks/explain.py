"""What a heat map costs, beside the answer that it explains.

    python benchmarks/explain.py [--model FOLDER] [--batch 1 16] [--rounds 20]

Both are timed in turn, so that whatever else the machine does slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))


def medians(
    rounds: int, first: Callable[[], object], second: Callable[[], object]
) -> tuple[float, float]:
    """Call both in turn; return the median seconds of each, the first calls not counted."""
    spent: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for action, times in zip((first, second), spent, strict=True):
            start = time.perf_counter()
            action()
            times.append(time.perf_counter() - start)
    return statistics.median(spent[0][1:]), statistics.median(spent[1][1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, for each batch size, the time an image takes and the ratio."""
    parser = argparse.ArgumentParser(description="Time heat maps beside answers.")
    parser.add_argument("--model", type=Path, default=CHECKOUT / "model" / "released")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)

    from model.explain import Explainer
    from model.predict import Classifier

    classifier = Classifier.load(options.model)
    explainer = Explainer.of(classifier)
    side = classifier.info.input_size
    print("batch  answer ms/image  heat map ms/image  ratio")
    for count in options.batch:
        images = np.random.default_rng(0).random((count, side, side)).astype(np.float32)
        answer, heat = medians(
            options.rounds,
            lambda images=images: classifier.predict(images),
            lambda images=images: explainer.heatmaps(images),
        )
        row = (1000 * answer / count, 1000 * heat / count, heat / answer)
        print(f"{count:5d}  {row[0]:15.1f}  {row[1]:17.1f}  {row[2]:5.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
