"""`cxr-worker` with a network that costs nothing, or a stated time; everything else of it is real.

BENCH_SLEEP_MS=50 python -m benchmarks.stub worker --queues gpu

The image is read, decoded, prepared, judged by the gate, and its finding saved. Only the answer of
the network is made up, as if it had seen an average child.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker import __main__ as command_line
from worker import composition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.artifact import Artifact
    from model.engines import Engine, Forward
    from model.predict import Classifier

SLEEP = "BENCH_SLEEP_MS"


def forward_of(released: Artifact) -> Forward:
    """Make what stands for the network of an artifact."""
    import numpy as np

    classes, seconds = len(released.description["labels"]), int(os.environ.get(SLEEP, "0")) / 1000
    average = np.asarray(released.arrays["gate/mean"], np.float32)

    def forward(images: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        time.sleep(seconds)
        count = len(images)
        return np.zeros((count, classes), np.float32), np.repeat(average[None], count, 0)

    return forward


def load(path: Path) -> Classifier:
    """Load a model as `composition.load_classifier` does, without its network."""
    from model import engines
    from model.predict import Classifier

    def start(released: Artifact, build: Callable[[], Any], *_: Any) -> Engine:  # noqa: ARG001
        return engines.Engine("stub", forward_of(released))

    engines.start = start
    return Classifier.load(path)


if __name__ == "__main__":
    composition.load_classifier = load
    command_line.app()
