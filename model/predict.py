"""Answers: `Classifier.load(path).predict(batch)`.

TensorFlow is loaded by `Classifier.load` only; `load_info` reads the description alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from model import artifact
from model.calibration import OperatingPoint, softmax
from model.data import BACTERIAL, NORMAL, VIRAL
from model.fitness import OUTSIDE_POPULATION, Population
from model.gate import BLANK, PixelGate, is_blank
from model.preprocess import FloatImage, Preprocessing, prepare
from model.quiet import without_greeting

Forward = Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]]

# Batches are padded to one of these, so that the graph is traced for no other size.
BATCH_SIZES = (1, 4, 16)


@dataclass(frozen=True)
class ModelInfo:
    """What a released model says about itself.

    Parameters
    ----------
    name, version, digest
        What a report quotes; the digest covers weights, preprocessing and thresholds.
    labels
        The classes.
    input_size
        Side of the network's input, pixels.
    temperature, calibrated
        Of the probabilities; whether they were calibrated on held-out patients.
    threshold, undetermined
        Probability of pneumonia where the finding changes, and the band round it.
    metrics
        Figures on held-out patients.
    attribution
        Whose data the model was trained on, and the terms.
    card
        The model card, Markdown.
    """

    name: str
    version: str
    digest: str
    labels: tuple[str, ...]
    input_size: int
    temperature: float
    calibrated: bool
    threshold: float
    undetermined: tuple[float, float]
    metrics: Mapping[str, Any]
    attribution: str
    card: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image.

    Parameters
    ----------
    pneumonia
        Calibrated probability, or None when the image was not assessed.
    bacterial, viral
        Given that there is a pneumonia, which kind; they sum to 1. None when not assessed, or
        when the model does not tell them apart.
    finding
        `PRESENT`, `ABSENT` or `UNDETERMINED`; None when not assessed.
    reason
        Why the pixels may not be judged; None when they were.
    flags
        What a reader of the answer must know.
    """

    pneumonia: float | None = None
    bacterial: float | None = None
    viral: float | None = None
    finding: str | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()


def load_info(path: Path | str) -> ModelInfo:
    """Read what a model says about itself; no TensorFlow.

    Raises
    ------
    ConfigurationError
        If there is no artifact, or it was changed.
    """
    return _info(artifact.describe(Path(path)))


def _info(description: Mapping[str, Any]) -> ModelInfo:
    point = description["operating_point"]
    return ModelInfo(
        name=str(description["name"]),
        version=str(description["version"]),
        digest=str(description["digest"]),
        labels=tuple(description["labels"]),
        input_size=int(description["preprocessing"]["size"]),
        temperature=float(description["temperature"]),
        calibrated=bool(description["calibrated"]),
        threshold=float(point["threshold"]),
        undetermined=(float(point["low"]), float(point["high"])),
        metrics=description["metrics"],
        attribution=str(description["attribution"]),
        card=str(description.get("card", "")),
    )


class Classifier:
    """A released model, ready to answer.

    Parameters
    ----------
    released
        The artifact.
    device
        `auto`, `cpu` or `gpu`.

    Raises
    ------
    ConfigurationError
        If the artifact cannot be built here, or there is no such device.
    """

    def __init__(self, released: artifact.Artifact, device: str = "auto") -> None:
        description = released.description
        self.info = _info(description)
        self.spec = Preprocessing.from_dict(description["preprocessing"])
        self.point = OperatingPoint(**description["operating_point"])
        self.gate = PixelGate.from_artifact(description["gate"], released.arrays)
        self.network, place = _build(description["architecture"], released, device)
        self._forward = forward_graph(self.network, self.spec.size, place)

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Classifier:
        """Read an artifact and build its network.

        Raises
        ------
        ConfigurationError
            If there is no artifact, it was changed, or there is no such device.
        """
        return cls(artifact.read(Path(path)), device)

    def prepare(self, image: NDArray[Any]) -> FloatImage:
        """Turn an image (rows, columns) in [0, 1], air dark, into network input (size, size)."""
        return prepare(image, self.spec)

    def predict(self, batch: NDArray[Any], population: Population = "withhold") -> list[Prediction]:
        """Answer for prepared images.

        Parameters
        ----------
        batch
            Shape (N, size, size), from `prepare`.
        population
            What a chest that looks like an adult's leads to: no answer, a flag, or nothing.
        """
        if not len(batch):
            return []
        logits, features = self.forward(batch)
        reasons = self.gate.judge(features)
        probability = softmax(logits, self.info.temperature)
        return [
            self._answer(BLANK if is_blank(image) else reason, p, population)
            for image, reason, p in zip(batch, reasons, probability, strict=True)
        ]

    def forward(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (N, C) and features (N, F) of prepared images (N, size, size)."""
        images = np.asarray(batch, np.float32)[..., None]
        parts = [self._padded(images[i : i + n]) for i, n in _chunks(len(images))]
        logits, features = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(features)

    def _padded(self, images: NDArray[np.float32]) -> tuple[Any, Any]:
        count = len(images)
        size = next(s for s in BATCH_SIZES if s >= count)
        padding = [(0, size - count), (0, 0), (0, 0), (0, 0)]
        logits, features = self._forward(np.pad(images, padding))
        return logits[:count], features[:count]

    def _answer(
        self, reason: str | None, probability: NDArray[np.float64], population: Population
    ) -> Prediction:
        flags: tuple[str, ...] = ()
        if reason == OUTSIDE_POPULATION and population != "withhold":
            flags = (OUTSIDE_POPULATION,) if population == "flag" else ()
            reason = None
        if reason:
            return Prediction(reason=reason)
        labels = self.info.labels
        pneumonia = float(1 - probability[labels.index(NORMAL)])
        bacterial = viral = None
        if BACTERIAL in labels and VIRAL in labels:
            first, second = probability[labels.index(BACTERIAL)], probability[labels.index(VIRAL)]
            bacterial = float(first / max(first + second, 1e-12))
            viral = 1 - bacterial
        return Prediction(pneumonia, bacterial, viral, self.point.finding(pneumonia), flags=flags)


def _chunks(count: int) -> list[tuple[int, int]]:
    step = BATCH_SIZES[-1]
    return [(start, min(step, count - start)) for start in range(0, count, step)]


def _build(architecture: str, released: artifact.Artifact, device: str) -> tuple[Any, str]:
    """Build the network; return it and the device it is on."""
    with without_greeting():
        import keras
        import tensorflow as tf

    place = _device(tf, device)
    with tf.device(place):
        try:
            network = keras.models.model_from_json(architecture)
            network.set_weights(released.network_weights())
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                "CXR_MODEL", f"the network cannot be built by Keras {keras.__version__}: {error}"
            ) from error
    return network, place


def forward_graph(network: Any, size: int, place: str = "/CPU:0") -> Forward:
    """Return images (N, size, size, 1) -> (logits, features), traced once for every N."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, size, size, 1), tf.float32)]
    graph = tf.function(lambda images: network(images, training=False), input_signature=signature)

    def forward(images: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        with tf.device(place):
            logits, features = graph(tf.constant(images))
        return logits.numpy(), features.numpy()

    return forward


def _device(tf: Any, device: str) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ConfigurationError("CXR_DEVICE", "gpu was asked for, but TensorFlow sees none")
    if device not in ("auto", "cpu", "gpu"):
        raise ConfigurationError("CXR_DEVICE", "must be auto, cpu or gpu")
    return "/GPU:0" if gpus and device != "cpu" else "/CPU:0"
