"""What happens beside the updates: validation, TensorBoard, progress."""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich import progress
from rich.console import Console

from model import figures, history
from model.calibration import TARGET_SENSITIVITY, choose_operating_point, softmax
from model.data import BACTERIAL, NORMAL, VIRAL
from model.judgement import measure
from model.metrics import auc

DRAWING = 0.01  # of the time may go into curves
TOLD_S = 60.0  # between two lines where there is no terminal


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

    The last epoch's logits stay in `logits`, shape (N, C).

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
        self.logits: NDArray[np.floating[Any]] = np.zeros((0, len(labels)))

    def measure(self, network: keras.Model) -> dict[str, float]:
        """Return the scores of a network with the weights it has."""
        self.logits = network.predict(self.images, batch_size=32, verbose=0)
        return validation_scores(self.logits, self.classes, self.labels)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Add the scores to the epoch's logs, where the other callbacks find them."""
        with averaged_weights(self.model):
            scores = self.measure(self.model)
        if logs is not None:
            logs.update(scores)
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


class Curves(keras.callbacks.Callback):
    """Draw the curves of the validation images in TensorBoard while training.

    From the logits that `Validation` has anyway, and only while drawing takes less than a hundredth
    of the time; the threshold is the one that would be released.

    Parameters
    ----------
    folder
        TensorBoard's log folder.
    validation
        Comes before this one in the list of callbacks.
    patients
        The patient of each validation image.
    """

    def __init__(self, folder: Path, validation: Validation, patients: Sequence[str]) -> None:
        super().__init__()
        self.folder, self.validation, self.patients = folder, validation, patients
        self.started = self.spent = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Draw, if it is cheap enough by now."""
        begun = time.monotonic()
        if self.spent > DRAWING * (begun - self.started):
            return
        normal = self.validation.labels.index(NORMAL)
        truth = self.validation.classes != normal
        probability = 1 - softmax(self.validation.logits)[:, normal]
        point = choose_operating_point(truth, probability, TARGET_SENSITIVITY)
        values = measure(truth, probability, self.patients, point)
        writer = tf.summary.create_file_writer(str(self.folder))
        with writer.as_default(step=epoch):
            for name in figures.DRAWN:
                pixels = figures.as_pixels(figures.draw(name, values))
                tf.summary.image(f"curves/{name}", pixels[None])
        writer.close()
        self.spent += time.monotonic() - begun


class Progress(keras.callbacks.Callback):
    """One line of scores an epoch, on the terminal and in a file, and how long it will take.

    On a terminal there is a bar; elsewhere (CI, nohup) a line a minute.

    Parameters
    ----------
    written
        The training's `model.history`.
    stage
        What is being trained.
    epochs
        Number of epochs of the stage.
    steps
        Updates an epoch.
    """

    def __init__(self, written: Path, stage: str, epochs: int, steps: int) -> None:
        super().__init__()
        self.written, self.stage, self.epochs, self.steps = written, stage, epochs, steps
        console = Console()
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(f"{stage}, batches", total=epochs * steps)
        self.started = self.told = 0.0
        self.epoch = 0

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one; files get it unbroken."""
        self.bar.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Show the bar, and take care that it ends, as the cursor is hidden meanwhile."""
        self.bar.start()
        atexit.register(self.bar.stop)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Put the bar where a resumed training stands."""
        self.started = self.told = time.monotonic()
        self.epoch = epoch
        self.bar.update(self.task, completed=epoch * self.steps)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Advance."""
        self.bar.advance(self.task)
        now = time.monotonic()
        if self.bar.disable and now - self.told > TOLD_S:
            self.told = now
            whole = (now - self.started) / (batch + 1) * self.steps
            left = whole * (self.epochs - self.epoch) - (now - self.started)
            done = f"{batch + 1} of {self.steps} batches"
            self.say(f"{self.stage} {self.epoch + 1}/{self.epochs}: {done}, {_minutes(left)} left")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print and keep the epoch's scores."""
        scores = {name: round(float(value), 5) for name, value in (logs or {}).items()}
        seconds = round(time.monotonic() - self.started, 1)
        told = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        left = _minutes(seconds * (self.epochs - epoch - 1))
        self.say(f"{self.stage} {epoch + 1}/{self.epochs}: {seconds:.0f} s, {left} left, {told}")
        row = {"stage": self.stage, "epoch": epoch + 1, "seconds": seconds, **scores}
        history.append(self.written, row)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Leave the bar as it is."""
        self.bar.stop()
        atexit.unregister(self.bar.stop)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
