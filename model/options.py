"""The options of a training: one frozen value that the artifact keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Training:
    """Everything that decides what a training gives, stored in the artifact.

    Parameters
    ----------
    backbone
        A key of `model.network.BACKBONES`.
    weights
        `none`, `imagenet`, a released artifact, or a keras-hub weights file.
    size
        Side of the network's input, pixels.
    epochs, head_epochs
        Epochs of the whole network, and before them of its new head alone (transfer only).
    batch
        Images an update.
    learning_rate, weight_decay, layer_decay, average
        See `model.optimizer.make_optimizer`.
    label_smoothing
        Share of the target spread over all classes, in [0, 1).
    validation
        Share of the patients held out.
    seed
        Of split, initial weights, order and augmentation.
    precision
        Keras mixed precision policy while training.
    """

    backbone: str = "resnet18"
    weights: str = "none"
    size: int = 160
    epochs: int = 14
    head_epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    layer_decay: float = 0.7
    average: float = 0.995
    label_smoothing: float = 0.05
    validation: float = 0.15
    seed: int = 1
    precision: str = "auto"
