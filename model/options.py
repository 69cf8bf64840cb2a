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
    epochs, head_epochs, top_epochs
        Epochs of the whole network, and before them (transfer only) of its head alone, then of
        its head and last two stages.
    members
        How often the whole network is trained from the same start, in other orders and with
        other changes of the images; the weights are averaged into one network (transfer only).
    patience
        Epochs without a lower validation loss after which training ends, with the best epoch's
        weights; 0 trains all epochs.
    batch
        Images an update.
    learning_rate, weight_decay, layer_decay, average
        See `model.optimizer.make_optimizer`.
    loss
        `crossentropy` or `focal`.
    class_weights
        `balanced` (the classes count alike) or `none`.
    label_smoothing
        Share of the target spread over all classes, in [0, 1).
    augmentation
        Strength of the changes of training images: 0 only mirrors them, 1 is what
        `model.augment` describes.
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
    head_epochs: int = 1
    top_epochs: int = 1
    members: int = 1
    patience: int = 0
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    layer_decay: float = 0.7
    average: float = 0.995
    loss: str = "crossentropy"
    class_weights: str = "balanced"
    label_smoothing: float = 0.05
    augmentation: float = 1.0
    validation: float = 0.15
    seed: int = 1
    precision: str = "auto"

    def problem(self) -> str | None:
        """Return what is wrong with the first option that cannot be used, naming it; else None."""
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                return f"{option(name)} must be from {low} to {high}"
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                return f"{option(name)} must be one of {', '.join(known)}"
        return None


def option(name: str) -> str:
    """Return the command line option of a field."""
    return "--" + name.replace("_", "-")


LIMITS: dict[str, tuple[float, float]] = {
    "size": (32, 1024),
    "epochs": (1, 10_000),
    "head_epochs": (0, 10_000),
    "top_epochs": (0, 10_000),
    "members": (1, 20),
    "patience": (0, 10_000),
    "batch": (1, 4096),
    "learning_rate": (1e-9, 10),
    "weight_decay": (0, 1),
    "layer_decay": (0.01, 1),
    "average": (0, 0.99999),
    "label_smoothing": (0, 0.9),
    "augmentation": (0, 1),
    "validation": (0.01, 0.9),
    "seed": (0, 2**31 - 1),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "backbone": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "loss": ("crossentropy", "focal"),
    "class_weights": ("balanced", "none"),
    "precision": ("auto", "float32", "mixed_bfloat16", "mixed_float16"),
}
