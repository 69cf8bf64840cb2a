"""Ending a training when validation gets no better, with the best epoch's weights.

What was seen is read from the history of finished epochs, so that a resumed training decides as an
uninterrupted one would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from model import history
from model.callbacks import averaged_weights


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch of a stage with the lowest validation loss so far.

    Parameters
    ----------
    history
        The file of JSON lines that `model.callbacks.Progress` writes.
    stage
        Which of its stages.
    folder
        Holds the best epoch's averaged weights.
    """

    history: Path
    stage: str
    folder: Path

    @property
    def weights(self) -> Path:
        """The file with the weights."""
        return self.folder / "best.weights.h5"

    def losses(self) -> dict[int, float]:
        """Return epoch -> validation loss; an epoch trained twice counts as its last time."""
        found = (row for row in history.rows(self.history) if row["stage"] == self.stage)
        return {row["epoch"]: row["val_loss"] for row in found}

    def is_over(self, patience: int) -> bool:
        """Whether the last `patience` epochs all were no better than the best before them."""
        losses = self.losses()
        return bool(losses) and max(losses) - min(losses, key=losses.__getitem__) >= patience


class EarlyStop(keras.callbacks.Callback):
    """Keep the best epoch's weights; end the stage when patience is over.

    Parameters
    ----------
    best
        Of this stage. The callback must come after the one that writes the history.
    patience
        Epochs without a lower validation loss.
    """

    def __init__(self, best: Best, patience: int) -> None:
        super().__init__()
        self.best, self.patience = best, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Look at the epoch that has just been written."""
        losses = self.best.losses()
        if min(losses, key=losses.__getitem__) == epoch + 1:
            self.best.folder.mkdir(parents=True, exist_ok=True)
            new = self.best.weights.with_name("new.weights.h5")
            with averaged_weights(self.model):
                self.model.save_weights(new)
            new.replace(self.best.weights)
        self.model.stop_training = self.best.is_over(self.patience)
