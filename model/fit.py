"""Fitting the network to the images: the part of a training that takes the time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from model import artifact, history
from model.augment import augment
from model.callbacks import Curves, Pictures, Progress, Validation
from model.checkpoint import Checkpoint, system_errors
from model.data import DataError, Loaded, class_index
from model.early_stop import Best, EarlyStop
from model.network import (
    HEAD,
    build_network,
    load_imagenet,
    load_weights_file,
    transfer,
)
from model.optimizer import make_optimizer
from model.options import Training

WARMUP_EPOCHS = 1.0
LOSSES = {
    "crossentropy": keras.losses.CategoricalCrossentropy,
    "focal": keras.losses.CategoricalFocalCrossentropy,
}
# Stage of training -> what begins the names of the layers that learn; all do in any other stage.
LEARNING = {"head": (HEAD,), "top": ("stack2", "stack3", HEAD)}
REFRESH_BATCHES = 40


@dataclass(frozen=True)
class Fitting:
    """One training: options, where it writes, and what it learns from.

    Parameters
    ----------
    training
        The options.
    out
        Holds `checkpoint/` of an earlier start, if any, which is continued.
    train, validation
        Prepared images.
    labels
        The classes.
    """

    training: Training
    out: Path
    train: Loaded
    validation: Loaded
    labels: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Updates an epoch."""
        return max(1, len(self.train.examples) // self.training.batch)

    @property
    def classes(self) -> Any:
        """Class of each training image, shape (N,)."""
        return class_index(self.train.examples, self.labels)

    def run(self) -> keras.Model:
        """Train, or go on training; return the network with averaged weights, in float32.

        Raises
        ------
        DataError
            If the weights to start from do not fit it.
        """
        training = self.training
        keras.utils.set_random_seed(training.seed)
        keras.config.set_dtype_policy(precision_policy(training.precision))
        network = self._network()
        transferred = start_weights(network, training)
        trained = keras.Model(network.inputs, network.outputs[0], name=network.name)
        if transferred:
            self._stage(trained, "head", training.head_epochs)
            self._stage(trained, "top", training.top_epochs)
        start = network.get_weights()
        members = []
        for number in range(1, (training.members if transferred else 1) + 1):
            network.set_weights(start)
            self._stage(trained, "all" if number == 1 else f"all-{number}", training.epochs, number)
            members.append(network.get_weights())
        network.set_weights([np.mean(parts, axis=0) for parts in zip(*members, strict=True)])
        refresh_normalisation(trained, self.train.images, self.batches(training.seed))
        self._tell(trained, len(members))
        return self._as_float32(network)

    @property
    def history(self) -> Path:
        """The file of finished epochs."""
        return self.out / history.NAME

    def _tell(self, network: keras.Model, members: int) -> None:
        """Add what the network as it will be released reaches on validation to the history."""
        begun = time.monotonic()
        scores = self._measuring().measure(network)
        seconds = round(time.monotonic() - begun, 1)
        row = {"stage": f"average of {members}", "epoch": members, "seconds": seconds, **scores}
        history.append(self.history, row)

    def _measuring(self) -> Validation:
        images = self.validation.images[..., None].astype(np.float32)
        return Validation(images, class_index(self.validation.examples, self.labels), self.labels)

    def batches(self, seed: int) -> tf.data.Dataset:
        """Return endless shuffled, augmented batches of (images, one-hot classes)."""
        images = tf.constant(self.train.images[..., None])
        targets = tf.one_hot(self.classes, len(self.labels))
        count = len(self.train.examples)

        def pick(rows: Any) -> tuple[Any, Any]:
            chosen = tf.cast(tf.gather(images, rows), tf.float32)
            return augment(chosen, self.training.augmentation), tf.gather(targets, rows)

        order = tf.data.Dataset.range(count).shuffle(count, seed=seed).repeat()
        batched = order.batch(self.training.batch)
        # One at a time: in parallel the random changes would differ from run to run.
        return batched.map(pick).prefetch(2)

    def _network(self) -> keras.Model:
        return build_network(self.training.backbone, self.training.size, len(self.labels))

    def _stage(self, network: keras.Model, stage: str, epochs: int, member: int = 1) -> None:
        """Train some layers, and leave their averaged weights; finished epochs are kept on disk."""
        if not epochs:
            return
        seed = self.training.seed + 1000 * (member - 1)
        keras.utils.set_random_seed(seed)
        batches = self.batches(seed)
        unfreeze(network, stage)
        self._compile(network, epochs)
        best = Best(self.history, stage, self.out / "checkpoint" / f"{stage}-best")
        patience = self.training.patience
        if not (patience and best.is_over(patience)):
            checkpoint = Checkpoint(self.out / "checkpoint" / stage, self.steps)
            with system_errors(self.out):
                network.fit(
                    batches,
                    epochs=epochs,
                    initial_epoch=checkpoint.restore(network),
                    steps_per_epoch=self.steps,
                    class_weight=self._class_weights(),
                    callbacks=self._callbacks(batches, stage, epochs, best, checkpoint),
                    shuffle=False,
                    verbose=0,
                )
        if patience and best.weights.exists():
            network.load_weights(best.weights)
        else:
            network.optimizer.finalize_variable_values(network.trainable_variables)

    def _class_weights(self) -> dict[int, float] | None:
        if self.training.class_weights == "none":
            return None
        return class_weights(self.classes, len(self.labels))

    def _compile(self, network: keras.Model, epochs: int) -> None:
        training = self.training
        scratch = training.weights == "none"
        optimizer = make_optimizer(
            steps=epochs * self.steps,
            warmup_steps=int(WARMUP_EPOCHS * self.steps),
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            average=training.average,
            layer_decay=1.0 if scratch else training.layer_decay,
        )
        optimizer.build(network.trainable_variables)  # so that a checkpoint can be read into it
        loss = LOSSES[training.loss](from_logits=True, label_smoothing=training.label_smoothing)
        network.compile(optimizer, loss, metrics=["accuracy"])

    def _callbacks(
        self, batches: tf.data.Dataset, stage: str, epochs: int, best: Best, checkpoint: Checkpoint
    ) -> list[keras.callbacks.Callback]:
        board = self.out / "tensorboard" / stage
        validation = self._measuring()
        callbacks = [
            # First of all that may fail or be interrupted: a finished epoch is never lost.
            checkpoint,
            validation,
            # A number here would drop the scalars of epochs whose last batch it does not divide.
            keras.callbacks.TensorBoard(board, write_graph=False, update_freq="epoch"),
            Pictures(board, next(iter(batches))[0]),
            Curves(board, validation, [e.patient for e in self.validation.examples]),
            Progress(self.history, stage, epochs, self.steps),
        ]
        patience = self.training.patience
        return [*callbacks, EarlyStop(best, patience)] if patience else callbacks

    def _as_float32(self, network: keras.Model) -> keras.Model:
        """Return the same network computing in float32: what is served is what is measured."""
        keras.config.set_dtype_policy("float32")
        served = self._network()
        served.set_weights(network.get_weights())
        return served


def unfreeze(network: keras.Model, stage: str) -> None:
    """Let the layers of a stage learn; a frozen BatchNormalization also keeps its statistics."""
    for layer in network.layers:
        layer.trainable = layer.name.startswith(LEARNING.get(stage, ""))


def refresh_normalisation(
    network: keras.Model, images: Any, batches: tf.data.Dataset, count: int = REFRESH_BATCHES
) -> None:
    """Take the statistics of every BatchNormalization again, for the averaged weights.

    Those gathered while training belong to the last weights, not to their average, and to disturbed
    images only; here every other batch is of images as they are served.

    References
    ----------
    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018,
    section 3.2.
    """
    layers = [la for la in network.layers if isinstance(la, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    disturbed = iter(batches)
    generator = np.random.default_rng(0)
    for number in range(count):
        batch = next(disturbed)[0]
        if number % 2:
            batch = images[generator.integers(0, len(images), len(batch))][..., None]
        for layer in layers:
            layer.momentum = number / (number + 1)  # the mean over all batches so far
        network(tf.cast(batch, tf.float32), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def precision_policy(precision: str) -> str:
    """Choose mixed bfloat16 where the processor multiplies it in hardware (twice the speed)."""
    if precision != "auto":
        return precision
    if tf.config.list_physical_devices("GPU"):
        return "mixed_bfloat16"
    cpu = Path("/proc/cpuinfo")
    return "mixed_bfloat16" if cpu.exists() and "amx_bf16" in cpu.read_text() else "float32"


def start_weights(network: keras.Model, training: Training) -> bool:
    """Load the weights to start from; return whether there were any.

    Raises
    ------
    DataError
        If they cannot be read or are another network's.
    """
    if training.weights == "none":
        return False
    path = Path(training.weights)
    try:
        if training.weights == "imagenet":
            load_imagenet(network, training.backbone)
        elif path.suffix in (".h5", ".keras"):
            load_weights_file(network, training.backbone, path)
        else:
            transfer(network, artifact.read(path).network_weights())
    except Exception as error:  # keras and keras-hub raise many kinds for a file that does not fit
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot start from --weights {training.weights}: {first}") from error
    return True


def class_weights(classes: Any, count: int) -> dict[int, float]:
    """Return weights that make the classes count alike."""
    counts = np.bincount(classes, minlength=count)
    return {i: float(counts.sum() / (count * max(n, 1))) for i, n in enumerate(counts)}
