"""Finished epochs on disk: each replaces the one before it whole, or not at all.

`keras.callbacks.BackupAndRestore` writes over its file, and beside it a second one that must agree;
a disk that fills up in between leaves what it cannot read.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from model.data import DataError


class Checkpoint(keras.callbacks.Callback):
    """Keep the weights and the optimizer's state of the last finished epoch.

    Parameters
    ----------
    folder
        Where; made if missing.
    steps
        Updates an epoch.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.latest = folder / "latest.weights.h5"

    def restore(self, network: keras.Model) -> int:
        """Load what was kept, if anything, and return how many epochs are finished.

        Parameters
        ----------
        network
            Compiled, its optimizer built.

        Raises
        ------
        DataError
            If the file is damaged or of another network.
        """
        if not self.latest.exists():
            return 0
        try:
            network.load_weights(self.latest)
        except Exception as error:  # h5py and Keras raise many kinds on a damaged file
            raise DataError(
                f"{self.latest} is damaged or another network's: delete it to repeat its epochs"
            ) from error
        return int(network.optimizer.iterations) // self.steps

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Write beside the old file, then put the new one in its place."""
        new = self.latest.with_name("new.weights.h5")
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            self._check_space()
            self.model.save_weights(new, overwrite=True)
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.replace(self.latest)
        except (OSError, RuntimeError) as error:  # h5py tells of a full disk as either
            new.unlink(missing_ok=True)
            raise OSError(f"{self.latest} cannot be written: {reason(error)}") from error

    def _check_space(self) -> None:
        """Refuse a disk that is as good as full: h5py would print more than one line about it."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        needed = sum(4 * math.prod(v.shape) for v in variables)
        if shutil.disk_usage(self.latest.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def system_errors(folder: Path) -> Iterator[None]:
    """Turn what TensorFlow raises where `folder` cannot be written into an OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"{folder} cannot be written: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return what an error says, in a few words; h5py and TensorFlow wrap the system's in many."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    wrapped = re.search(r"error message = '([^']+)'", text)
    return wrapped[1] if wrapped else text.splitlines()[0].rpartition("}} ")[2]
