"""From a trained network to an artifact: calibrate, choose the threshold, fit the gate, measure."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model import artifact, card, data
from model.augment import disturbed
from model.calibration import (
    TARGET_SENSITIVITY,
    OperatingPoint,
    choose_operating_point,
    fit_temperature,
    softmax,
)
from model.data import BACTERIAL, NORMAL, VIRAL, Loaded
from model.engines import Forward, forward_graph
from model.fit import precision_policy
from model.gate_fitting import fit_pixel_gate, load_adults
from model.images import image_files
from model.metrics import auc, summary
from model.options import Training
from model.preprocess import Preprocessing

DISTURBED_COPIES = 1  # of each validation image, to weigh as much as the original


@dataclass(frozen=True)
class Trained:
    """A trained network and what it was trained and validated on.

    Parameters
    ----------
    training
        The options.
    network
        Prepared images (N, size, size, 1) -> logits, features.
    train, validation
        Prepared images.
    labels
        The classes.
    spec
        The preprocessing.
    adults, other_adults
        Folders of chest images outside the intended population: to fit the gate, and a second
        collection to measure it.
    command
        The command line, for the card.
    seconds
        How long the training took.
    steps
        What each step of the training reached on validation, in order.
    """

    training: Training
    network: keras.Model
    train: Loaded
    validation: Loaded
    labels: tuple[str, ...]
    spec: Preprocessing
    adults: Sequence[Path]
    other_adults: Sequence[Path]
    command: str
    seconds: float
    steps: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def _graph(self) -> Forward:
        place = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        return forward_graph(self.network, self.spec.size, place)

    def forward(self, images: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and features of prepared images (N, size, size)."""
        whole = np.asarray(images, np.float32)[..., None]
        parts = [self._graph(whole[i : i + 32]) for i in range(0, len(whole), 32)]
        logits, features = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(features)


def assemble(trained: Trained, folder: Path) -> Path:
    """Calibrate, fit the gate, measure and write the artifact; return its folder."""
    keras.utils.set_random_seed(trained.training.seed)
    arrays = artifact.as_released(artifact.network_arrays(trained.network.get_weights()))
    trained.network.set_weights(list(arrays.values()))
    print("calibrating on the validation images")
    temperature, kind_temperature, point, metrics = _calibrate(trained)
    print("fitting the gate")
    seed = trained.training.seed
    adults, others = (
        load_adults(folders, trained.spec, seed)
        for folders in (trained.adults, trained.other_adults)
    )
    gate, metrics["gate"] = fit_pixel_gate(
        lambda images: trained.forward(images)[1],
        disturbed,
        trained.train,
        trained.validation,
        adults,
        others,
        seed,
    )
    description = {
        **_provenance(trained),
        "temperature": temperature,
        "kind_temperature": kind_temperature,
        "calibrated": True,
        "operating_point": asdict(point),
        "gate": gate.description(),
        "metrics": metrics,
    }
    description["card"] = card.render(description)
    artifact.write(folder, description, {**arrays, **gate.arrays()})
    return folder


def _calibrate(trained: Trained) -> tuple[float, float, OperatingPoint, dict[str, Any]]:
    """Fit temperatures and threshold, and measure on validation as it is and disturbed.

    Both look at originals and at disturbed copies: fitted to the originals alone they would trust
    images that look exactly like the training set. Of the two thresholds that reach the target, on
    the originals and on the copies, the lower is taken, so that it is reached on either.
    """
    clean = trained.validation.images
    sets: list[NDArray[Any]] = [clean, *(disturbed(clean) for _ in range(DISTURBED_COPIES))]
    logits = [trained.forward(images)[0] for images in sets]
    classes = data.class_index(trained.validation.examples, trained.labels)
    normal = trained.labels.index(NORMAL)
    whole, all_classes = np.concatenate(logits), np.tile(classes, len(sets))
    temperature = fit_temperature(whole, all_classes)
    kind_temperature = fit_kind_temperature(whole, all_classes, trained.labels, temperature)
    pneumonia = [1 - softmax(some, temperature)[:, normal] for some in logits]
    truth = classes != normal
    points = [choose_operating_point(truth, some, TARGET_SENSITIVITY) for some in pneumonia]
    point = min(points, key=lambda p: p.threshold)
    patients = [e.patient for e in trained.validation.examples]
    validation = summary(truth, pneumonia[0], patients, point)
    validation |= kind_figures(logits[0], classes, trained.labels)
    changed = summary(
        np.tile(truth, len(sets) - 1),
        np.concatenate(pneumonia[1:]),
        patients * (len(sets) - 1),
        point,
    )
    metrics = {"validation": validation, "disturbed": changed}
    return temperature, kind_temperature, point, metrics


def fit_kind_temperature(
    logits: NDArray[Any], classes: NDArray[np.int64], labels: tuple[str, ...], otherwise: float
) -> float:
    """Fit the temperature of bacterial against viral to the pneumonias of known kind.

    Parameters
    ----------
    logits, classes
        Shape (N, C) and (N,).
    labels
        The classes.
    otherwise
        What is returned where the network does not tell the kinds apart.
    """
    if not {BACTERIAL, VIRAL} <= set(labels):
        return otherwise
    pair = [labels.index(BACTERIAL), labels.index(VIRAL)]
    ill = np.isin(classes, pair)
    return fit_temperature(logits[ill][:, pair], (classes[ill] == pair[1]).astype(np.int64))


def kind_figures(
    logits: NDArray[Any], classes: NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, float]:
    """Return AUC and accuracy of bacterial against viral, among the pneumonias."""
    if not {BACTERIAL, VIRAL} <= set(labels):
        return {}
    bacterial, viral = labels.index(BACTERIAL), labels.index(VIRAL)
    ill = np.isin(classes, (bacterial, viral))
    truth = classes[ill] == bacterial
    odds = np.asarray(logits[ill, bacterial] - logits[ill, viral], np.float64)
    return {
        "bacterial_auc": auc(truth, odds),
        "bacterial_accuracy": float(((odds > 0) == truth).mean()),
    }


def _provenance(trained: Trained) -> dict[str, Any]:
    """Return what is known before anything is measured."""
    names = {e.path.name for e in trained.train.examples}
    adults = (*trained.adults, *trained.other_adults)
    names |= {p.name for folder in adults for p in image_files(folder)}
    start = _start(trained.training.weights)
    attribution = card.attribution(sorted(names), start.get("attribution", ""))
    return {
        "started_from": start,
        "steps": [dict(step) for step in trained.steps],
        "name": f"cxr-{trained.training.backbone}",
        "version": "0.0.0",
        "labels": list(trained.labels),
        "preprocessing": trained.spec.as_dict(),
        "architecture": trained.network.to_json(),
        "training": _shareable(trained.training),
        "train_images": len(trained.train.examples),
        "train_balance": data.balance(trained.train.examples),
        "data_fingerprint": data.fingerprint(trained.train.examples),
        "command": trained.command,
        "seconds": round(trained.seconds),
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "libraries": {
            name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")
        },
        "attribution": attribution,
        "licence": card.licence(attribution),
    }


# What an artifact tells of the one it was started from.
_LINEAGE = (
    "name",
    "version",
    "digest",
    "command",
    "seconds",
    "train_images",
    "train_balance",
    "data_fingerprint",
    "attribution",
    "steps",
    "started_from",
)


def _start(weights: str) -> dict[str, Any]:
    """Return what is to be told of an artifact that lent its weights; nothing for other starts."""
    path = Path(weights)
    if not path.is_dir():
        return {}
    description = artifact.describe(path)
    return {key: description[key] for key in _LINEAGE if key in description}


def _shareable(training: Training) -> dict[str, Any]:
    """Return the options without the folders of the machine it was trained on."""
    return {
        **asdict(training),
        "weights": Path(training.weights).name,
        "precision": precision_policy(training.precision),
    }
