"""What happens beside the updates: validation, TensorBoard, progress."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich import progress

from model.calibration import softmax
from model.data import BACTERIAL, NORMAL, VIRAL
from model.metrics import auc


@contextmanager
def averaged_weights(network: keras.Model) -> Iterator[None]:
    """Put the moving average of the weights in place, and the weights back afterwards."""
    saved = network.get_weights()
    network.optimizer.finalize_variable_values(network.trainable_variables)
    try:
        yield
    finally:
        network.set_weights(saved)


def validation_scores(
    logits: NDArray[np.floating[Any]], classes: NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, float]:
    """Return loss and areas under the curve.

    Parameters
    ----------
    logits
        Shape (N, C).
    classes
        Shape (N,), indices into `labels`.
    labels
        Names of the classes.
    """
    probability = softmax(logits)
    chosen = probability[np.arange(len(classes)), classes]
    normal = labels.index(NORMAL)
    scores = {
        "val_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean()),
        "val_accuracy": float((probability.argmax(1) == classes).mean()),
        "val_auc": auc(classes != normal, 1 - probability[:, normal]),
    }
    if {BACTERIAL, VIRAL} <= set(labels):
        ill = classes != normal
        bacterial, viral = labels.index(BACTERIAL), labels.index(VIRAL)
        odds = logits[ill, bacterial] - logits[ill, viral]
        scores["val_auc_bacterial"] = auc(classes[ill] == bacterial, odds)
    return scores


class Validation(keras.callbacks.Callback):
    """Measure the averaged weights on the validation images after each epoch.

    Parameters
    ----------
    images
        Shape (N, size, size, 1).
    classes
        Shape (N,).
    labels
        Names of the classes.
    """

    def __init__(
        self, images: NDArray[Any], classes: NDArray[np.int64], labels: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.images, self.classes, self.labels = images, classes, labels

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Add the scores to the epoch's logs, where the other callbacks find them."""
        with averaged_weights(self.model):
            logits = self.model.predict(self.images, batch_size=32, verbose=0)
        if logs is not None:
            logs.update(validation_scores(logits, self.classes, self.labels))
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class Pictures(keras.callbacks.Callback):
    """Write a sheet of augmented training images to TensorBoard once.

    Parameters
    ----------
    folder
        TensorBoard's log folder.
    batch
        Images as the network sees them, shape (N, size, size, 1).
    """

    def __init__(self, folder: Path, batch: Any) -> None:
        super().__init__()
        self.folder, self.batch = folder, batch

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Write the sheet."""
        writer = tf.summary.create_file_writer(str(self.folder))
        with writer.as_default():
            tf.summary.image("augmented", self.batch, step=0, max_outputs=16)
        writer.close()


class Progress(keras.callbacks.Callback):
    """A bar with the time left, and one line of scores an epoch, on the terminal and in a file.

    Parameters
    ----------
    history
        A file of JSON lines: stage, epoch, seconds and scores of every finished epoch.
    stage
        What is being trained.
    epochs
        Number of epochs of the stage.
    steps
        Updates an epoch.
    """

    def __init__(self, history: Path, stage: str, epochs: int, steps: int) -> None:
        super().__init__()
        self.history, self.stage, self.epochs, self.steps = history, stage, epochs, steps
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(elapsed_when_finished=False),
        )
        self.task = self.bar.add_task(f"{stage}, batches", total=epochs * steps)
        self.started = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Show the bar."""
        self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Put the bar where a resumed training stands."""
        self.started = time.monotonic()
        self.bar.update(self.task, completed=epoch * self.steps)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Advance."""
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print and keep the epoch's scores."""
        scores = {name: round(float(value), 5) for name, value in (logs or {}).items()}
        seconds = round(time.monotonic() - self.started, 1)
        told = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self.bar.console.print(f"{self.stage} {epoch + 1}/{self.epochs}: {seconds:.0f} s, {told}")
        row = {"stage": self.stage, "epoch": epoch + 1, "seconds": seconds, **scores}
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Leave the bar as it is."""
        self.bar.stop()


def seconds_trained(history: Path) -> float:
    """Return how long all epochs in a history took, over every time the training was resumed."""
    lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
    return float(sum(json.loads(line)["seconds"] for line in lines))
