"""Answers: `Classifier.load(path).predict(batch)`.

`load_info` reads the description alone; `Classifier.load` starts an engine, see `model.engines`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from model import artifact, engines
from model.batches import forward_all
from model.calibration import OperatingPoint, softmax
from model.data import BACTERIAL, NORMAL, VIRAL
from model.fitness import OUTSIDE_POPULATION, Population
from model.gate import BLANK, PixelGate, is_blank
from model.preprocess import FloatImage, Preprocessing, prepare

log = logging.getLogger(__name__)


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
    kind_temperature
        Of the conditional probabilities of bacterial and viral, which are less certain.
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
    kind_temperature: float
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
        kind_temperature=float(description.get("kind_temperature", description["temperature"])),
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
    engine
        `auto`, `tensorflow` or `openvino`; see `model.engines.start`. The figures of an artifact
        were measured with TensorFlow.
    cache
        Folder where the network is kept in OpenVINO's form.
    gpu_memory_mb
        The most memory of a GPU to use; by default as much as is needed.

    Raises
    ------
    ConfigurationError
        If the artifact cannot be built here, or there is no such device or engine.
    """

    def __init__(
        self,
        released: artifact.Artifact,
        device: str = "auto",
        engine: str = "tensorflow",
        cache: Path | None = None,
        gpu_memory_mb: int | None = None,
    ) -> None:
        description = released.description
        try:
            self.info = _info(description)
            self.spec = Preprocessing.from_dict(description["preprocessing"])
            self.point = OperatingPoint(**description["operating_point"])
            self.gate = PixelGate.from_artifact(description["gate"], released.arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "CXR_MODEL",
                f"the model cannot be built: {artifact.DESCRIPTION} lacks or misstates {error}; it"
                " was made by another version of cxr-worker",
            ) from error
        self._released, self._device = released, device
        self.engine, self._forward, self._pads = engines.start(
            released, lambda: self.network, device, engine, cache, gpu_memory_mb
        )

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: str = "auto",
        engine: str = "tensorflow",
        cache: Path | None = None,
        gpu_memory_mb: int | None = None,
    ) -> Classifier:
        """Read an artifact and start its network.

        Raises
        ------
        ConfigurationError
            If there is no artifact, it was changed, or there is no such device or engine.
        """
        return cls(artifact.read(Path(path)), device, engine, cache, gpu_memory_mb)

    @cached_property
    def network(self) -> Any:
        """The Keras network; built when it is first asked for, as OpenVINO answers without it."""
        return engines.build_network(self._released, self._device)

    @property
    def via(self) -> int:
        """Side of the square that `prepare` reduces an image to first; it may come as that."""
        return self.spec.via

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
        if not np.isfinite(logits).all():
            raise ValueError("the network's answer is no number")
        reasons = self.gate.judge(features)
        probability = softmax(logits, self.info.temperature)
        pneumonia = 1 - probability[:, self.info.labels.index(NORMAL)]
        answers = zip(batch, reasons, pneumonia, self._bacterial(logits), strict=True)
        return [
            self._answer(BLANK if is_blank(image) else reason, float(ill), kind, population)
            for image, reason, ill, kind in answers
        ]

    def forward(self, batch: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits (N, C) and features (N, F) of prepared images (N, size, size).

        Raises
        ------
        MemoryError
            When memory, of the machine or of its GPU, does not suffice for a single image.
        """
        images = np.asarray(batch, np.float32)[..., None]
        return forward_all(self._forward, images, pads=self._pads)

    def _bacterial(self, logits: NDArray[np.float32]) -> list[float | None]:
        """Return the probability that a pneumonia is bacterial; None where that is not told."""
        labels = self.info.labels
        if BACTERIAL not in labels or VIRAL not in labels:
            return [None] * len(logits)
        pair = logits[:, [labels.index(BACTERIAL), labels.index(VIRAL)]]
        return [float(p) for p in softmax(pair, self.info.kind_temperature)[:, 0]]

    def _answer(
        self, reason: str | None, pneumonia: float, bacterial: float | None, population: Population
    ) -> Prediction:
        flags: tuple[str, ...] = ()
        if reason == OUTSIDE_POPULATION and population != "withhold":
            flags = (OUTSIDE_POPULATION,) if population == "flag" else ()
            reason = None
        if reason:
            return Prediction(reason=reason)
        viral = None if bacterial is None else 1 - bacterial
        return Prediction(pneumonia, bacterial, viral, self.point.finding(pneumonia), flags=flags)
