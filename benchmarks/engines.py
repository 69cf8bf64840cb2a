"""How fast each engine answers on this machine, and how far its answers are from TensorFlow's.

python benchmarks/engines.py [--model model/released] [--rounds 20]

All engines take turns in one run, with a pause before each turn, so that their ratios mean
something on a busy machine too. Images per second are of the median turn; images per CPU second
count the time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from model import openvino_engine
from model.calibration import softmax
from model.data import NORMAL
from model.engines import Forward, forward_graph
from model.openvino_engine import compile_, generated_chests, write_ir
from model.predict import Classifier

RELEASED = Path(__file__).parents[1] / "model" / "released"
BATCHES = (1, 16)
REFERENCE = "tensorflow float32"


@dataclass
class Turns:
    """What the turns of one engine at one batch size took, in seconds."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def take(self, forward: Forward, images: NDArray[np.float32]) -> None:
        """Time one turn."""
        wall, processor = time.perf_counter(), time.process_time()
        forward(images)
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def engines(classifier: Classifier) -> dict[str, Forward]:
    """Start a model on every engine and in every precision of this CPU."""
    found = {REFERENCE: forward_graph(classifier.network, classifier.spec.size)}
    core = openvino_engine.runtime().Core()
    with tempfile.TemporaryDirectory() as name:
        write_ir(classifier.network, Path(name))
        graph, weights = ((Path(name) / f"model.{end}").read_bytes() for end in ("xml", "bin"))
    precisions = ["float32"]
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions.append("bfloat16")
    for precision in precisions:
        found[f"openvino {precision}"] = compile_(core, graph, weights, precision)
    return found


def measure(
    running: dict[str, Forward], images: NDArray[np.float32], rounds: int, pause_s: float
) -> dict[str, Turns]:
    """Let the engines take turns at the same batch."""
    turns = {name: Turns() for name in running}
    for forward in running.values():
        forward(images)  # the first turn at a size compiles for it
    for _ in range(rounds):
        for name, forward in running.items():
            time.sleep(pause_s)
            turns[name].take(forward, images)
    return turns


def main() -> int:
    """Print a table for each batch size."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/engines.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=RELEASED)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before each turn")
    options = parser.parse_args()
    try:
        classifier = Classifier.load(options.model, "cpu")
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    running = engines(classifier)
    chests = generated_chests(classifier.spec.size, max(BATCHES))
    normal = classifier.info.labels.index(NORMAL)
    answers = {
        name: softmax(forward(chests)[0], classifier.info.temperature)[:, normal]
        for name, forward in running.items()
    }
    print(f"{classifier.info.name} {classifier.info.version}, {classifier.spec.size} pixels")
    print("engine              batch  images/s  ratio  per CPU s  ratio  difference")
    for batch in BATCHES:
        turns = measure(running, chests[:batch], options.rounds, options.pause)
        wall = {name: statistics.median(each.wall) for name, each in turns.items()}
        processor = {name: statistics.median(each.processor) for name, each in turns.items()}
        for name in running:
            difference = float(np.abs(answers[name] - answers[REFERENCE]).max())
            print(
                f"{name:18} {batch:6} {batch / wall[name]:9.1f}"
                f" {wall[REFERENCE] / wall[name]:6.2f} {batch / processor[name]:10.1f}"
                f" {processor[REFERENCE] / processor[name]:6.2f} {difference:11.5f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
