"""Train for about a minute on generated images: `make train-smoke`.

The last line says whether the loss fell and the worker serves what came out; so does the exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dicom_node.errors import ConfigurationError
from tests.unit.model.tiny import chest_like, write_set

CHECKOUT = Path(__file__).parents[1]
PATIENTS = 40  # two images of each, normal and ill alike
SHOWN = 8  # new images of each kind that the artifact answers
# fmt: off
OPTIONS = [
    "--backbone", "resnet18", "--size", "48", "--batch", "16", "--epochs", "8",
    "--average", "0.9", "--seed", "1",
]
# fmt: on
LOWER = 0.8  # of the first epoch's loss, which the last must stay below
APART = 0.2  # in probability, between ill and normal


class Failed(Exception):
    """What did not work, in one line."""


def main() -> int:
    """Train, check, and say so; exit code 1 when something did not work."""
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="train-smoke-") as name:
            told = check(Path(name))
    except Failed as failure:
        print(f"train-smoke: failed: {failure}", file=sys.stderr)
        return 1
    print(f"train-smoke: {told}; {time.monotonic() - begun:.0f} s")
    return 0


def check(home: Path) -> str:
    """Train in a folder and return what came out, in one line.

    Raises
    ------
    Failed
        If the training ends with an error, its loss does not fall, or its artifact does not serve.
    """
    artifact = train(write_set(home / "set", PATIENTS), home / "out")
    fell = loss_falls([json.loads(row) for row in (home / "out" / "history.jsonl").open()])
    return f"{fell}; {serves(artifact)}"


def train(images: Path, out: Path) -> Path:
    """Run the program as a user does; return the artifact."""
    program = [sys.executable, CHECKOUT / "model" / "train.py", "--data", images, "--out", out]
    done = subprocess.run([*program, *OPTIONS], check=False)
    if done.returncode:
        raise Failed(f"model/train.py ended with exit code {done.returncode}")
    return out / "artifact"


def loss_falls(rows: list[dict[str, float]]) -> str:
    """Compare the loss of the last epoch with that of the first."""
    losses = [row["loss"] for row in rows if "loss" in row]
    if len(losses) < 2:
        raise Failed(f"{len(losses)} epochs are in the history, too few to compare")
    told = f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} epochs"
    if not losses[-1] < LOWER * losses[0]:
        raise Failed(f"{told}: did not fall below {LOWER:.0%} of the first")
    return told


def serves(artifact: Path) -> str:
    """Let the worker describe the artifact, load it and answer images it never saw."""
    os.environ |= {"CXR_MODEL": str(artifact), "CXR_HOME": str(artifact.parent / "home")}
    show = [sys.executable, "-m", "worker", "model", "show", "--format", "json"]
    shown = subprocess.run(show, check=False, capture_output=True, text=True, cwd=CHECKOUT)
    if shown.returncode:
        raise Failed(f"cxr-worker model show: {(shown.stderr or shown.stdout).strip()}")
    return told_apart(*answers())


def answers() -> tuple[list[float], list[float]]:
    """Return the probabilities that the worker's own classifier gives to normal and ill images."""
    from worker import composition

    try:
        classifier = composition.classifier()
    except ConfigurationError as error:
        raise Failed(f"the worker cannot load the artifact: {error}") from error
    generator = np.random.default_rng(2)  # other images than those of the set

    def answer(ill: bool) -> list[float]:
        drawn = [chest_like(generator, ill=ill) for _ in range(SHOWN)]
        batch = np.stack([classifier.prepare(np.asarray(i, np.float32) / 255) for i in drawn])
        given = [p.pneumonia for p in classifier.predict(batch, "ignore")]
        return [probability for probability in given if probability is not None]

    return answer(ill=False), answer(ill=True)


def told_apart(normal: list[float], ill: list[float]) -> str:
    """Compare the answers for normal with those for ill images."""
    if min(len(normal), len(ill)) < SHOWN // 2:
        raise Failed(f"of {SHOWN} normal and {SHOWN} ill only {len(normal)}, {len(ill)} assessed")
    told = f"P(pneumonia) {np.mean(normal):.2f} for normal, {np.mean(ill):.2f} for ill"
    if np.mean(ill) - np.mean(normal) < APART:
        raise Failed(f"{told}: not told apart")
    return told


if __name__ == "__main__":
    sys.exit(main())
