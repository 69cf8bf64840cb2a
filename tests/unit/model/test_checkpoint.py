"""Finished epochs survive a full disk, a kill in between, and damage."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from model.data import DataError

STEPS = 3


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def network(width: int = 64):
    """Return a network whose weights fill some hundred kilobytes."""
    import keras

    made = keras.Sequential([keras.layers.Input((512,)), keras.layers.Dense(width)])
    made.compile(keras.optimizers.Adam(0.01), "mse")
    made.optimizer.build(made.trainable_variables)
    return made


def fit(made, folder: Path, epochs: int):
    from model.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder, STEPS)
    start = checkpoint.restore(made)
    data = np.random.default_rng(0).random((STEPS, 512)), np.zeros((STEPS, made.output_shape[1]))
    seen = made.fit(
        *data, 1, epochs, verbose=0, callbacks=[checkpoint], initial_epoch=start, shuffle=False
    )
    return seen.epoch


def test_a_resumed_training_goes_on_with_weights_and_optimizer(tmp_path):
    once, twice = network(), network()
    twice.set_weights(once.get_weights())
    fit(once, tmp_path / "once", 4)
    fit(twice, tmp_path / "twice", 2)
    resumed = network()
    assert fit(resumed, tmp_path / "twice", 4) == [2, 3]
    assert np.abs(once.get_weights()[0] - resumed.get_weights()[0]).max() < 1e-6


def test_a_full_disk_is_one_line_and_keeps_the_epoch_before(tmp_path):
    made = network()
    fit(made, tmp_path, 1)
    kept = (tmp_path / "latest.weights.h5").read_bytes()
    with (
        disk_full_after(len(kept) // 2),
        pytest.raises(OSError, match="cannot be written: File too large") as told,
    ):
        fit(made, tmp_path, 2)
    assert "\n" not in str(told.value)
    assert (tmp_path / "latest.weights.h5").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["latest.weights.h5"]
    assert fit(network(), tmp_path, 3) == [1, 2]


def test_what_was_half_written_when_the_process_was_killed_is_not_read(tmp_path):
    made = network()
    fit(made, tmp_path, 1)
    whole = (tmp_path / "latest.weights.h5").read_bytes()
    (tmp_path / "new.weights.h5").write_bytes(whole[: len(whole) // 2])
    assert fit(network(), tmp_path, 2) == [1]


def test_a_disk_without_room_for_an_epoch_is_told_before_anything_is_written(tmp_path, monkeypatch):
    from model import checkpoint

    made = network()
    fit(made, tmp_path, 1)
    size = (tmp_path / "latest.weights.h5").stat().st_size
    free = SimpleNamespace(free=size // 2)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(OSError, match=r"latest\.weights\.h5 cannot be written: No space left"):
        fit(made, tmp_path, 2)
    free.free = 2 * size
    assert fit(network(), tmp_path, 2) == [1]


@pytest.mark.parametrize("damage", ["truncated", "another network"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    fit(network(), tmp_path, 1)
    latest = tmp_path / "latest.weights.h5"
    if damage == "truncated":
        latest.write_bytes(latest.read_bytes()[:5000])
    other = network(64 if damage == "truncated" else 32)
    with pytest.raises(DataError, match="damaged or another network's"):
        fit(other, tmp_path, 2)


def test_an_error_of_tensorflow_is_told_as_one_of_the_system(tmp_path):
    import tensorflow as tf

    from model.checkpoint import system_errors

    with (
        pytest.raises(OSError, match="out cannot be written: No space left"),
        system_errors(tmp_path / "out"),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "{{node x}} No space left\nmore")
