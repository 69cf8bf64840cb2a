"""Images a second in training, for each backbone, input size and precision.

python benchmarks/training.py [--backbones resnet18 resnet50] [--sizes 160 224] [--batch 32]

Each row is the median of several updates on random images; the last column compares with the first
row of the same run, which is what holds on another machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np

PRECISIONS = ("float32", "mixed_bfloat16")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet34", "resnet50"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 224])
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=5)
    return parser.parse_args()


def images_a_second(backbone: str, size: int, precision: str, batch: int, updates: int) -> float:
    """Time updates of one network; the first, which traces the graph, does not count."""
    import keras

    from model.network import build_network
    from model.optimizer import make_optimizer

    keras.config.set_dtype_policy(precision)
    network = build_network(backbone, size, 3)
    trained = keras.Model(network.inputs, network.outputs[0])
    optimizer = make_optimizer(
        steps=100, warmup_steps=10, learning_rate=1e-3, weight_decay=0.02, average=0.99
    )
    trained.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).random((batch, size, size, 1)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[np.arange(batch) % 3]
    seconds = []
    for _ in range(updates + 1):
        begun = time.perf_counter()
        trained.train_on_batch(images, targets)
        seconds.append(time.perf_counter() - begun)
    return batch / statistics.median(seconds[1:])


def main() -> None:
    """Print the table."""
    options = parse()
    first = None
    print("backbone   size  precision        images/s  times the first")
    rows = itertools.product(options.backbones, options.sizes, options.precisions)
    for backbone, size, precision in rows:
        rate = images_a_second(backbone, size, precision, options.batch, options.updates)
        first = first or rate
        print(
            f"{backbone:10} {size:4}  {precision:15} {rate:9.1f} {rate / first:16.2f}", flush=True
        )


if __name__ == "__main__":
    main()
